//! How others tell the trainer what to do: the process by its control, workers by links of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Plan;

/// What the trainer is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Order {
    /// Whether a worker of the process holds the input's first partition.
    Lead {
        /// Its number within the process.
        worker: usize,
        /// Whether it does.
        leads: bool,
    },
    /// Train now.
    Now,
    /// A key drifts: train soon.
    Drift,
    /// Train by this from now on.
    Plan(Box<Plan>),
    /// Look whether to stop.
    Stop,
}

/// The other end of the trainer: tells it what to do. Dropping it and all links, or [`Control::stop`], ends the thread.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) orders: Sender<Order>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Control {
    /// Of a trainer that is not there, and what it would be told.
    #[cfg(test)]
    pub(crate) fn connected() -> (Self, Receiver<Order>) {
        let (orders, receiver) = channel();
        let stop = Arc::default();
        (Self { orders, stop }, receiver)
    }

    /// The way by which worker number `worker` of the process tells the trainer what concerns it.
    pub fn link(&self, worker: usize) -> TrainerLink {
        TrainerLink {
            worker,
            orders: self.orders.clone(),
        }
    }

    /// Asks for a run at once; where another process of the group trains, it is that one that must be asked.
    pub fn train_now(&self) {
        // A trainer that is gone needs no orders.
        self.orders.send(Order::Now).unwrap_or_default();
    }

    /// Trains by another plan from the next run on, which comes when that says. What concerns the records and the model must be as it was.
    pub fn plan(&self, plan: Plan) {
        // A trainer that is gone needs no orders.
        self.orders
            .send(Order::Plan(Box::new(plan)))
            .unwrap_or_default();
    }

    /// Cancels a run at its next step and ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders.send(Order::Stop).unwrap_or_default();
    }
}

/// What a worker tells the trainer of its process: who leads trains.
#[derive(Clone, Debug)]
pub struct TrainerLink {
    worker: usize,
    orders: Sender<Order>,
}

impl TrainerLink {
    /// To no trainer.
    pub fn unconnected() -> Self {
        Self::connected(0).0
    }

    /// Of worker number `worker`, and what it tells.
    pub(crate) fn connected(worker: usize) -> (Self, Receiver<Order>) {
        let (orders, receiver) = channel();
        (Self { worker, orders }, receiver)
    }

    /// Tells whether the worker holds the input's first partition: then its process trains for the group.
    pub fn leads(&self, leads: bool) {
        let worker = self.worker;
        // A trainer that is gone needs no orders.
        let order = Order::Lead { worker, leads };
        self.orders.send(order).unwrap_or_default();
    }

    /// Tells that a key began to drift: the next training comes sooner, if the plan says so and this process is the one that trains.
    pub fn drift(&self) {
        self.orders.send(Order::Drift).unwrap_or_default();
    }

    /// Tells that somebody said what is normal from now on: that is trained at once, if this process is the one that trains.
    pub fn new_normal(&self) {
        self.orders.send(Order::Now).unwrap_or_default();
    }
}
