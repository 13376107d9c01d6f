//! The page of operators in a real browser, beside real calls.
//!
//! One browser calls itself through the relay; another, on the relay's host, looks at the page. A
//! sender of ours loses one packet of ten before the relay, so that there is a problem to be seen.
//! Pictures of what the browser shows are left in `target/tmp/page/`.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{AllocateOptions, Credentials, TurnClient};

use crate::browser::Browser;
use crate::call::serve_page;
use crate::edge::{Home, RelayFile, connect, mint, start_auth, start_relay};
use crate::offload;
use crate::process::Process;
use crate::site::{INTERNAL, PEER, Site};
use rig::clock;

const URL: &str = "http://127.0.0.1:9643/";
const TOKEN: &str = "interop-admin-token-77ab";

/// How long the page may take to show what happened: a look of the relay, a question of the page.
const SOON: Duration = Duration::from_secs(30);

/// Length of the browser's call, seconds: longer than all that is looked at.
const CALL: u64 = 120;

/// Allocations of a relay that is full.
const MANY: usize = 10_000;

/// A relay whose operators come with a browser.
struct Office {
    site: Site,
    home: Home,
    file: RelayFile,
}

impl Office {
    fn new(more: &str) -> Self {
        let home = Home::with_pool_key();
        home.write("admin-token", TOKEN);
        let tables = format!("[admin]\ntoken_file = \"admin-token\"\n{more}");
        let file = RelayFile { tables, ports: "40000-61999", ..RelayFile::default() };
        Self { site: Site::new(), home, file }
    }

    fn start(&self) -> Process {
        start_relay(&self.site, &self.home, &self.file)
    }

    fn browser(&self) -> Browser {
        Browser::open_with(&self.site.relay, URL, &["--window-size=1360,1000"])
    }
}

/// Leaves a picture of the page.
fn keep(browser: &mut Browser, name: &str) {
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).expect("a folder for pictures");
    std::fs::write(folder.join(name), browser.picture()).expect("it is written");
}

/// A client that sends RTP of which every tenth packet never comes, and a peer that loses none.
struct Lossy {
    client: TurnClient,
    peer: UdpSocket,
    channel: u16,
    number: u16,
}

impl Lossy {
    fn open(site: &Site, credential: &Credentials) -> Self {
        let mut client = site.client.enter(|| connect(INTERNAL, credential));
        client.allocate(&AllocateOptions::default()).expect("an allocation");
        let peer = site.peer.enter(|| UdpSocket::bind((PEER, 0))).expect("a port of the peer");
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        let channel = client.bind_channel(peer.local_addr().expect("it is bound"));
        Self { client, peer, channel: channel.expect("a channel"), number: 0 }
    }

    fn packet(number: u16, ssrc: u32) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        let time = (u32::from(number) * 160).to_be_bytes();
        [&[0x80, 0, high, low][..], &time, &ssrc.to_be_bytes(), &[7; 160]].concat()
    }

    /// Twenty milliseconds of it.
    fn go_on(&mut self) {
        let next = clock::now() + Duration::from_millis(20);
        self.number = self.number.wrapping_add(1);
        if !self.number.is_multiple_of(10) {
            let there = Self::packet(self.number, 0xA11CE);
            self.client.send_channel(self.channel, &there).expect("it is sent");
            let mut bytes = [0; 200];
            let (_, relayed) = self.peer.recv_from(&mut bytes).expect("it comes");
            let back = Self::packet(self.number - self.number / 10, 0xB0B);
            self.peer.send_to(&back, relayed).expect("it is sent");
            self.client.recv(SOON).expect("the socket works").expect("it comes back");
        }
        clock::rest_until(next);
    }

    /// Goes on until the page finds something true.
    fn until(&mut self, browser: &mut Browser, expression: &str) {
        let found = clock::look_until(SOON, || {
            (0..10).for_each(|_| self.go_on());
            browser.finds(expression).then_some(())
        });
        if found.is_none() {
            let text = browser.value("document.body.innerText", SOON);
            panic!("in vain for `{expression}`; the page says: {text}");
        }
    }
}

#[test]
fn page_shows_real_calls_and_ends_one_for_who_has_the_token() {
    let office = Office::new("");
    let mut relay = office.start();
    let site = &office.site;
    let auth = start_auth(site, &office.home);
    let servers = auth.ice_servers(&site.client, "alice");
    let mut caller = Browser::open(&site.client, &format!("http://{}/", serve_page(&site.client)));
    let call = format!("void (window.ends = call({servers}, {CALL}))");
    caller.value(&call, SOON);
    let mut lossy = Lossy::open(site, &mint(&office.home.path("pool.pem"), "bob"));

    let mut page = office.browser();
    let page = &mut page;
    lossy.until(page, "document.querySelectorAll('#allocations tbody th a').length === 3");
    // The rows are those of the relay, and the two of the browser's call carry video.
    lossy.until(
        page,
        "[...document.querySelectorAll('#allocations tbody tr')].filter(row => \
             Number(row.cells[3].textContent.replaceAll(',', '')) > 100).length >= 2",
    );
    plots_move(page, &mut lossy);
    tells_what_happens(&office, page);
    lossy.until(
        page,
        "document.querySelector('#problems').innerText.includes('between client and relay')",
    );
    keep(page, "light.png");
    let light = page.value("getComputedStyle(document.body).backgroundColor", SOON);
    page.prefer("dark");
    let dark = page.value("getComputedStyle(document.body).backgroundColor", SOON);
    assert_ne!(light, dark, "the page follows what its reader prefers");
    keep(page, "dark.png");
    page.prefer("light");

    let own = lossy.client.local_addr().expect("it is bound");
    let row = format!(
        "[...document.querySelectorAll('#allocations tbody tr')].find(it => it.innerText.includes('{own}')).click()"
    );
    page.value(&row, SOON);
    looks_closely(page, &mut lossy);
    captures_it(page, &mut lossy);
    ends_it(page, &mut lossy);
    loses_and_finds(&office, &mut relay, page);
}

/// What happens is shown as it happens: who begins, who ends, and who is refused.
fn tells_what_happens(office: &Office, page: &mut Browser) {
    page.until("document.querySelector('#live').innerText === 'live'", SOON);
    let site = &office.site;
    let mut guest = Lossy::open(site, &mint(&office.home.path("pool.pem"), "carol"));
    let stranger = Credentials::new("nobody", "not the password");
    let mut stranger = site.client.enter(|| connect(INTERNAL, &stranger));
    stranger.allocate(&AllocateOptions::default()).expect_err("it is nobody");
    guest.client.release().expect("it ends");
    let [guest, stranger] = [&guest.client, &stranger].map(|it| it.local_addr().expect("bound"));
    for (what, client) in [("opened", guest), ("closed", guest), ("", stranger)] {
        let told = format!(
            "[...document.querySelectorAll('#happened li')].some(it => \
                 it.innerText.includes('{what}') && it.innerText.includes('{client}'))"
        );
        page.until(&told, SOON);
    }
    page.until("document.querySelectorAll('#allocations tbody th a').length === 3", SOON);
}

/// What is drawn changes, and says what is carried.
fn plots_move(page: &mut Browser, lossy: &mut Lossy) {
    let drawn = "JSON.stringify([...document.querySelectorAll('#overview canvas')].map(it => it.toDataURL()))";
    let before = page.value(drawn, SOON);
    page.value(&format!("void (window.before = {before})"), SOON);
    lossy.until(
        page,
        &format!("JSON.parse({drawn}).every((it, at) => it !== JSON.parse(before)[at])"),
    );
    let label = page.value("document.querySelector('#plot-throughput canvas').ariaLabel", SOON);
    let label = label.as_str().expect("a label");
    assert!(
        label.contains("to peer ") && label.contains("kbit/s") || label.contains("Mbit/s"),
        "{label}"
    );
}

/// One allocation: its streams with their loss, its peer, and how it was over time.
fn looks_closely(page: &mut Browser, lossy: &mut Lossy) {
    lossy.until(
        page,
        "[...document.querySelectorAll('#streams tbody tr')].some(row => \
             row.cells[0].textContent === 'client' && row.cells[2].textContent === '000a11ce' \
             && Number(row.cells[7].textContent) > 8 && Number(row.cells[7].textContent) < 12)",
    );
    lossy.until(
        page,
        "[...document.querySelectorAll('#streams tbody tr')].some(row => \
             row.cells[0].textContent === 'peer' && row.cells[7].textContent === '0.0')",
    );
    let peer = lossy.peer.local_addr().expect("it is bound");
    lossy.until(page, &format!("document.querySelector('#peers').innerText.includes('{peer}')"));
    let label = page.value("document.querySelector('#plot-legs canvas').ariaLabel", SOON);
    assert!(label.as_str().is_some_and(|it| it.contains("peer 0 %")), "{label}");
    keep(page, "allocation.png");
}

/// What it sends and gets becomes a file, for who has the token. It is forgotten behind that.
fn captures_it(page: &mut Browser, lossy: &mut Lossy) {
    page.value("document.querySelector('#capture').click()", SOON);
    answer(page, TOKEN);
    lossy.until(page, "document.querySelector('#outcome').innerText.startsWith('Captured')");
    let outcome = page.value("document.querySelector('#outcome').innerText", SOON);
    let bytes = outcome.as_str().and_then(|it| it.split(' ').nth(1)?.replace(',', "").parse().ok());
    // Ten seconds of some thirty packets each way, their headers alone.
    assert!(bytes > Some(10_000_u64), "{outcome}");
    page.value("document.querySelector('#access').click()", SOON);
    page.until("sessionStorage.length === 0", SOON);
}

/// Types a token into the dialog that asks for it.
fn answer(page: &mut Browser, token: &str) {
    page.until("document.querySelector('#ask').open", SOON);
    let act = format!(
        "document.querySelector('#token').value = '{token}'; \
         document.querySelector('#ask-do').click()"
    );
    page.value(&act, SOON);
}

/// Without the token nothing ends; with it the call does.
fn ends_it(page: &mut Browser, lossy: &mut Lossy) {
    page.value("document.querySelector('#end').click()", SOON);
    answer(page, "not-the-token-at-all");
    page.until("document.querySelector('#ask-wrong').innerText === 'This is not the token.'", SOON);
    keep(page, "token.png");
    let kept = page.value("sessionStorage.length", SOON);
    assert_eq!(kept, 0, "a wrong token is not kept");
    lossy.client.refresh(Duration::from_secs(600)).expect("it goes on");
    answer(page, TOKEN);
    page.until("document.querySelector('#outcome').innerText.startsWith('Ended')", SOON);
    page.until("!document.querySelector('#over').hidden", SOON);
    let over = lossy.client.refresh(Duration::from_secs(600)).expect_err("it was ended");
    assert_eq!(over.code(), Some(437));
    // What befell it can be read all the same.
    page.until("document.querySelectorAll('#history li').length >= 2", SOON);
    let history = page.value("document.querySelector('#history').innerText", SOON);
    assert!(history.as_str().is_some_and(|it| it.contains("opened")), "{history}");
    keep(page, "over.png");
    why(page);
    page.value("location.hash = ''", SOON);
    page.until("document.querySelectorAll('#allocations tbody th a').length === 2", SOON);
}

/// A reason is explained to who searches for it.
fn why(page: &mut Browser) {
    page.value(
        "document.querySelector('#subject').value = 'no_allocation'; \
         document.querySelector('#search').requestSubmit()",
        SOON,
    );
    page.until("document.querySelector('#summary').innerText.includes('no_allocation')", SOON);
    page.until("document.querySelector('#findings').innerText.length > 20", SOON);
    assert_eq!(page.value("location.hash", SOON), "#why=no_allocation");
    keep(page, "why.png");
}

/// A relay that is gone is said to be gone, and found again when it is back.
fn loses_and_finds(office: &Office, relay: &mut Process, page: &mut Browser) {
    relay.kill();
    page.until(
        "document.querySelector('#lost').innerText.startsWith('No answer from the relay')",
        SOON,
    );
    keep(page, "lost.png");
    let _relay = office.start();
    page.until("document.querySelector('#lost').hidden", SOON);
    page.until(
        "document.querySelector('#allocations').innerText.includes('nobody is served')",
        SOON,
    );
}

#[test]
fn page_asks_for_the_token_first_where_reading_wants_it() {
    let office = Office::new(&format!("address = \"{INTERNAL}:9643\"\n"));
    let _relay = office.start();
    let credential = mint(&office.home.path("pool.pem"), "alice");
    let _lossy = Lossy::open(&office.site, &credential);
    let mut page = Browser::open(&office.site.client, &format!("http://{INTERNAL}:9643/"));
    let page = &mut page;
    answer(page, "not-the-token-at-all");
    page.until("document.querySelector('#ask-wrong').innerText === 'This is not the token.'", SOON);
    let rows = "document.querySelectorAll('#allocations tbody th a').length";
    assert_eq!(page.value(rows, SOON), 0, "nothing is shown before");
    answer(page, TOKEN);
    page.until(&format!("{rows} === 1"), SOON);
    // A tab that is read again goes on without asking.
    page.value("location.reload()", SOON);
    page.until(&format!("{rows} === 1 && !document.querySelector('#ask').open"), SOON);
}

#[test]
fn page_says_of_what_the_kernel_relays_that_nobody_measures_it() {
    let office = Office { site: offload::site(), ..Office::new(offload::OFFLOAD) };
    let _relay = office.start();
    let mut lossy = Lossy::open(&office.site, &mint(&office.home.path("pool.pem"), "alice"));
    let mut page = office.browser();
    let page = &mut page;
    let loss = "document.querySelector('#allocations tbody tr')?.cells[5].textContent";
    lossy.until(page, &format!("{loss} === 'kernel'"));
    page.until("document.querySelector('#problems').innerText.includes('not measured')", SOON);
    keep(page, "kernel.png");
    page.value("document.querySelector('#allocations tbody tr').click()", SOON);
    let measured = "document.querySelector('#measured').innerText";
    lossy.until(page, &format!("{measured}.startsWith('relayed by the kernel: not measured')"));
    lossy.until(page, "document.querySelector('#facts').innerText.includes('In the kernel')");
    keep(page, "kernel-allocation.png");
}

#[test]
fn page_lives_without_the_stream_of_events_and_takes_it_up_when_there_is_room() {
    let office = Office::new("");
    let _relay = office.start();
    let readers = || {
        let mut stream = TcpStream::connect(("127.0.0.1", 9643)).expect("the page's door");
        let request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).expect("it is sent");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
        stream
    };
    let readers: Vec<_> = office.site.relay.enter(|| (0..16).map(|_| readers()).collect());
    let mut page = office.browser();
    let page = &mut page;
    let rows =
        |count| format!("document.querySelectorAll('#allocations tbody th a').length === {count}");
    page.until(
        "document.querySelector('#allocations').innerText.includes('nobody is served')",
        SOON,
    );
    let mut lossy = Lossy::open(&office.site, &mint(&office.home.path("pool.pem"), "alice"));
    page.until(&rows(1), SOON);
    let live = "document.querySelector('#live').innerText";
    assert_eq!(page.value(live, SOON), "asks every 2.5 s");
    assert_eq!(page.value("document.querySelector('#happened').children.length", SOON), 0);
    drop(readers);
    page.until(&format!("{live} === 'live'"), SOON);
    lossy.client.release().expect("it ends");
    page.until("document.querySelector('#happened').innerText.includes('closed')", SOON);
    page.until(&rows(0), SOON);
    keep(page, "live.png");
}

#[test]
fn page_stays_quick_with_ten_thousand_allocations() {
    let limits = format!(
        "[limits]\nallocations = {MANY}\nallocations_per_user = {MANY}\nallocations_per_client = {MANY}\n\
         new_peers_per_minute_per_user = {MANY}\nnew_peers_per_minute_per_client = {MANY}\n\
         strangers_per_s = 1000000\nstrangers_burst = 1000000\n"
    );
    let office = Office::new(&limits);
    let relay = office.start();
    let site = &office.site;
    let credential = mint(&office.home.path("pool.pem"), "alice");
    let mut lossy = Lossy::open(site, &credential);
    let _clients: Vec<_> = site.client.enter(|| {
        let client = || {
            let mut client = connect(INTERNAL, &credential);
            client.allocate(&AllocateOptions::default()).map(|_| client)
        };
        (1..MANY).map(|_| client().expect("an allocation")).collect()
    });
    let mut page = office.browser();
    let page = &mut page;
    lossy.until(page, "document.querySelector('#shown').innerText.startsWith('100 of 10,000')");
    // The only one that carries something comes first.
    let own = lossy.client.local_addr().expect("it is bound");
    lossy.until(
        page,
        &format!("document.querySelector('#allocations tbody tr').innerText.includes('{own}')"),
    );
    keep(page, "many.png");
    page.size(390, 844);
    keep(page, "phone.png");
    page.size(1360, 1000);
    // Another order is there at once, and the browser is not kept busy.
    let sorted = page.value(
        "(async () => { \
             const begun = performance.now(); \
             document.querySelector('[data-sort=age]').click(); \
             while (!document.querySelector('#shown').innerText.includes('the oldest')) \
                 await new Promise(requestAnimationFrame); \
             return performance.now() - begun; \
         })()",
        SOON,
    );
    assert!(sorted.as_f64().is_some_and(|it| it < 2_000.0), "another order took {sorted} ms");
    let (begun, before) = (clock::now(), relay.cpu_time());
    let longest = page.value(
        "new Promise(done => { \
             let [longest, last, begun] = [0, performance.now(), performance.now()]; \
             const frame = now => { \
                 longest = Math.max(longest, now - last); last = now; \
                 if (now - begun > 6000) done(longest); else requestAnimationFrame(frame); \
             }; \
             requestAnimationFrame(frame); \
         })",
        SOON,
    );
    let spent = relay.cpu_time().saturating_sub(before).as_secs_f64();
    let share = spent / clock::now().duration_since(begun).as_secs_f64();
    assert!(share < 0.05, "the page takes {share} of a core from the relay");
    assert!(
        longest.as_f64().is_some_and(|it| it < 1_000.0),
        "the page stood still for {longest} ms"
    );
}
