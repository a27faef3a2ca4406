//! One training at a time, however many detectors a process has: first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How soon a stop is seen while others train.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who waits, in the order in which they came, the one whose turn it is first; and the next number.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<u64>,
    next: u64,
}

/// Lets one after another train. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<(Mutex<Queue>, Condvar)>);

/// It is one's turn, until this is dropped.
#[derive(Debug)]
#[must_use = "the turn lasts only while this lives"]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Numbers are put in and taken out whole.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is one's turn; `None`: it was told to stop before. `waits` is called if others come first.
    pub(super) fn wait(&self, stop: &AtomicBool, waits: impl FnOnce()) -> Option<Turn<'_>> {
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(number);
        // From here on whoever leaves makes room for the next.
        let turn = Turn {
            turns: self,
            number,
        };
        if queue.waiting.len() > 1 {
            waits();
        }
        while queue.waiting.front() != Some(&number) {
            if stop.load(Ordering::Relaxed) {
                drop(queue);
                return None;
            }
            let waited = self.0.1.wait_timeout(queue, LOOK_EVERY);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        Some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.turns.lock().waiting.retain(|other| *other != number);
        self.turns.0.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_after_another_in_the_order_in_which_they_came() {
        let turns = Turns::default();
        let go_on = AtomicBool::new(false);
        let first = turns
            .wait(&go_on, || panic!("nobody is before it"))
            .unwrap();
        let (send, came) = channel();
        let (began, begun) = channel();
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (turns, send, began, go_on) = (&turns, send.clone(), began.clone(), &go_on);
                scope.spawn(move || {
                    let turn = turns.wait(go_on, || began.send(()).unwrap()).unwrap();
                    send.send(number).unwrap();
                    drop(turn);
                });
                // The next only comes when this one waits.
                begun.recv().unwrap();
            }
            assert!(came.try_recv().is_err());
            drop(first);
            assert_eq!(came.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        });
    }

    #[test]
    fn who_is_told_to_stop_leaves_the_queue() {
        let turns = Turns::default();
        let (stop, go_on) = (AtomicBool::new(true), AtomicBool::new(false));
        let first = turns.wait(&go_on, || {}).unwrap();
        assert!(turns.wait(&stop, || {}).is_none());
        drop(first);
        assert!(
            turns
                .wait(&go_on, || panic!("nobody is before it"))
                .is_some()
        );
    }
}
