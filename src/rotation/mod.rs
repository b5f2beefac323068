//! A rotation from beginning to end: who has acknowledged what, what is done next, and what operators see and order.

pub mod report;
