//! What the office does, each as a task of its own.
//!
//! A defect in one of them ends that one alone: operators are answered, signals obeyed and certificates
//! renewed by the others. It is said once and counted, since some of what is missing only shows later.

use std::collections::HashMap;
use std::future;

use tokio::task::{Id, JoinSet};

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Duties {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Duties {
    /// Begins one, on the runtime that this is called in.
    pub(super) fn begin(
        &mut self,
        name: &'static str,
        duty: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(duty);
        self.names.insert(task.id(), name);
    }

    /// Tells of each that ends by a defect. Never ends by itself; all end when it is dropped.
    pub(super) async fn watch(mut self, failed: impl Fn(&'static str)) {
        while let Some(outcome) = self.tasks.join_next_with_id().await {
            if let Err(error) = outcome
                && let Some(name) = self.names.get(&error.id())
            {
                failed(name);
            }
        }
        future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_defect_in_one_leaves_the_others_and_is_told_once() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (works, mut work) = unbounded_channel();
        runtime.block_on(async {
            let mut duties = Duties::default();
            duties.begin("one with a defect", async { panic!("a defect of the test") });
            duties.begin("one that is done", async {});
            duties.begin("one that goes on", async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    works.send(()).unwrap();
                }
            });
            let told = Arc::clone(&told);
            let watch = duties.watch(move |name| told.lock().unwrap().push(name));
            assert!(timeout(Duration::from_millis(200), watch).await.is_err(), "it goes on");
        });
        assert_eq!(*told.lock().unwrap(), ["one with a defect"]);
        let mut done = 0;
        while work.try_recv().is_ok() {
            done += 1;
        }
        assert!(done > 1, "{done} steps");
        drop(runtime);
        assert!(work.is_closed(), "it ended with the watch");
    }
}
