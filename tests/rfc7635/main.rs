//! RFC 7635: access tokens of a third party, against a server in a simulated network.

mod lifetime;
mod narrow;
mod token;

use proto::auth::{Secret, TokenCipher, TokenKey, TokenKeys};
use proto::turn::Config;
use rig::kind;
use rig::site::{BEGIN, POOL_TOKEN_SECRET, pool_key};
use rig::{Draft, Heard, Login, Scheme, Token, World};

/// What tokens are sealed for.
const SERVER_NAME: &str = "turn.edge.test";
/// Keys of authorization servers.
const STRONG: (&str, &[u8]) = ("north", &[0x4E; 32]);
/// The same for the lesser cipher.
const LESSER: (&str, &[u8]) = ("union", &[0x55; 16]);

/// Takes tokens of both keys, and of the pool.
fn tokens(config: &mut Config) {
    let key = |(id, key): (&str, &[u8]), cipher| {
        TokenKey::new(id, cipher, &Secret::new(key.to_vec())).expect("the cipher's length")
    };
    let keys = vec![
        key(STRONG, TokenCipher::A256Gcm),
        key(LESSER, TokenCipher::A128Gcm),
        TokenKey::of_pool(&pool_key()).expect("32 bytes"),
    ];
    config.authority.tokens = Some(TokenKeys { server_name: SERVER_NAME.to_owned(), keys });
}

/// A world that takes tokens, whose clients speak as RFC 5389 clients do.
fn world(seed: u64) -> World {
    let mut world = World::configured(seed, tokens).with_client("alice").with_peer("bob");
    world.client("alice").state().scheme = Scheme::Legacy;
    world
}

/// A good token of the stronger key, fresh at the world's beginning.
fn good() -> Token {
    Token::new(STRONG.1, SERVER_NAME, BEGIN)
}

/// Lets a client sign with a token's key from now on.
fn adopt(world: &mut World, key_id: &str, token: &Token) {
    let mut alice = world.client("alice");
    alice.know_the_realm();
    alice.state().bearer = Some(token.signer());
    let password = String::new();
    alice.state().login = Login { username: key_id.to_owned(), password };
}

/// A request with a token in it.
fn with(draft: Draft, token: &Token) -> Draft {
    draft.raw(kind::ACCESS_TOKEN, &token.sealed())
}

/// Allocates with a token.
fn allocate(world: &mut World, key_id: &str, token: &Token) -> Heard {
    adopt(world, key_id, token);
    world.client("alice").ask(with(Draft::allocate(), token))
}

/// The key of the pool, as a token key.
fn pool() -> (String, Vec<u8>) {
    (pool_key().id.to_string(), POOL_TOKEN_SECRET.to_vec())
}
