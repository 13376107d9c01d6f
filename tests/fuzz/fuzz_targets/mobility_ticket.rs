//! Any bytes as a mobility ticket: raw, or laid over a genuine one. Nothing but the genuine one
//! moves the allocation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::turn::config::MobilityPolicy;
use rig::{Draft, World, kind};

fuzz_target!(|data: &[u8]| {
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut world = World::configured(1, |config| {
        config.mobility = MobilityPolicy::Allowed;
        config.ports = 50_000..=50_007;
        config.limits.allocations = 6;
    })
    .with_client("alice")
    .with_client("wlan");
    world.client("wlan").state().login = world.client("alice").state().login.clone();
    let wish = Draft::allocate().raw(kind::MOBILITY_TICKET, &[]);
    let heard = world.client("alice").allocate_with(wish);
    let genuine = heard.expect_success().value(kind::MOBILITY_TICKET).expect("a ticket").to_vec();
    let ticket = match how % 4 {
        0 => bytes.to_vec(),
        1 => genuine.iter().zip(bytes).map(|(true_byte, mask)| true_byte ^ mask).collect(),
        2 => [&genuine, bytes].concat(),
        _ => genuine
            .iter()
            .zip(bytes.iter().chain(std::iter::repeat(&0)))
            .map(|(true_byte, mask)| true_byte ^ mask)
            .collect(),
    };
    let answer = world.client("wlan").ask(Draft::refresh(600).raw(kind::MOBILITY_TICKET, &ticket));
    if ticket == genuine {
        answer.expect_success();
    } else {
        answer.expect_code(400);
    }
});
