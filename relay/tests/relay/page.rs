//! The page of operators as it leaves the relay: whole, cached, and bound to this relay alone.

use std::collections::BTreeSet;

use crate::admin::{Office, TOKEN, bearer};

/// Everything that one text of the page names, as paths.
fn named(text: &str) -> impl Iterator<Item = String> + '_ {
    let links = ["src=\"", "href=\"", "from \"."];
    links.into_iter().flat_map(move |begin| {
        text.split(begin).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
    })
}

/// The page and all it needs, as a browser finds it.
fn assets(office: &Office) -> Vec<(String, String, String)> {
    let (mut known, mut found) = (BTreeSet::new(), Vec::new());
    let mut wanted = vec!["/".to_owned()];
    while let Some(path) = wanted.pop() {
        if !known.insert(path.clone()) {
            continue;
        }
        let (status, head, text) = office.ask(&format!("GET {path}"), "");
        assert_eq!(status, 200, "{path}");
        wanted.extend(named(&text).filter(|name| name.starts_with('/')));
        found.push((path, head.to_lowercase(), text));
    }
    found
}

#[test]
fn the_page_and_all_it_names_are_here_and_nothing_is_elsewhere() {
    let office = Office::open(72, "127.0.0.1:22072", "token_file = \"token\"");
    let assets = assets(&office);
    assert!(assets.len() >= 8, "{:?}", assets.iter().map(|it| &it.0).collect::<Vec<_>>());
    for (path, head, text) in &assets {
        assert!(head.contains("content-security-policy: default-src 'none'"), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"), "{path}");
        // The policy would forbid it anyway.
        for inline in [" style=\"", "<style", "onclick=", "innerHTML"] {
            assert!(!text.contains(inline), "{path}: {inline}");
        }
        assert!(text.lines().count() <= 600, "{path} is long");
    }
    office.close();
}

#[test]
fn who_has_it_gets_it_not_again() {
    let office = Office::open(73, "127.0.0.1:22073", "");
    for (path, head, text) in assets(&office) {
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let known = format!("If-None-Match: {tag}\r\n");
        let (status, _, body) = office.ask(&format!("GET {path}"), &known);
        assert_eq!((status, &*body), (304, ""), "{path}");
        let (status, _, body) = office.ask(&format!("GET {path}"), "If-None-Match: \"0\"\r\n");
        assert_eq!((status, body), (200, text), "{path}");
    }
    office.close();
}

#[test]
fn off_loopback_the_page_is_free_and_what_it_shows_is_not() {
    let office = Office::open(74, "0.0.0.0:22074", "token_file = \"token\"");
    for (path, free) in [
        ("/", true),
        ("/page.js", true),
        ("/v1/overview", false),
        ("/v1/samples", false),
        ("/v1/state", false),
        ("/nothing", false),
    ] {
        let (status, ..) = office.ask(&format!("GET {path}"), "");
        assert_eq!(status, if free { 200 } else { 401 }, "{path}");
    }
    let (status, head, _) = office.ask("GET /v1/overview", &bearer(TOKEN));
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
    let (status, ..) = office.ask("POST /", &bearer(TOKEN));
    assert_eq!(status, 405);
    office.close();
}
