//! Claims about trace files, each told as a small story.

mod graph;
mod recorded;
mod properties;
mod hostile;
mod rules;
mod story;
