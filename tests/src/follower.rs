//! A follower of changes, as one that mirrors routes into a kernel, and the proof that it never lags.

use std::collections::{BTreeMap, BTreeSet};

use proto::addr::AllocationId;
use proto::now::Now;
use proto::turn::{Change, Route, Server};

use crate::beside::Beside;
use crate::books::Books;

/// Knows what routes there are from changes alone.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    routes: BTreeMap<AllocationId, Vec<Route>>,
    touched: BTreeSet<AllocationId>,
}

impl Follower {
    /// Hears a change.
    pub(crate) fn hear(&mut self, change: &Change) {
        self.touched.insert(change.allocation());
    }

    /// Asks for the routes of what has changed, and tells who relays beside the server.
    pub(crate) fn follow(
        &mut self,
        now: Now,
        server: &mut Server<Books>,
        beside: &mut Option<Box<dyn Beside>>,
    ) {
        for id in std::mem::take(&mut self.touched) {
            if let Some(beside) = beside {
                beside.follow(now, id, server);
            }
            let routes: Vec<Route> = server.routes(id).collect();
            if routes.is_empty() {
                self.routes.remove(&id);
            } else {
                self.routes.insert(id, routes);
            }
        }
    }

    /// Panics unless it knows exactly the routes there are, and none outlives its end.
    pub(crate) fn check(&self, server: &Server<Books>, now: Now) {
        let mut found = BTreeMap::new();
        for view in server.allocations(now) {
            let routes: Vec<Route> = server.routes(view.id).collect();
            assert!(routes.iter().all(|route| route.expires > now.mono), "no route is over");
            if !routes.is_empty() {
                found.insert(view.id, routes);
            }
        }
        assert_eq!(self.routes, found, "a follower of changes knows the routes");
    }
}
