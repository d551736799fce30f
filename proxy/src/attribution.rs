//! Which handler made which call, told from timing alone, for services that forward nothing.
//!
//! A service does the same things in the same order: after the request comes the first call, after its answer the next,
//! after the last the end. The [`Estimator`] learns what follows what inside a handler and after how long, counts by
//! counts and histogram by histogram, and hands the calls of a stretch of traffic out so that every handler then did
//! something it is known to do. It draws many such ways; the share of them in which a call is with a handler is the
//! probability of that link. Under the probability that [`Settings`] demands nothing is claimed about a single call,
//! but what endpoints call on average still counts it.
//!
//! Nothing here knows a clock, waits, or does input or output. Times are nanoseconds of one monotonic clock, that of
//! the proxy, so that no other machine's clock matters. Endpoints and callees are small numbers that the user gives out.
//! Everything kept is bounded; [`Costs`] counts what that cost.

mod estimate;
mod sight;
mod tally;
mod least_squares;
mod learn;
mod sampler;
mod path;
mod memo;
mod buffer;
mod settings;
mod batch;
mod model;
mod density;
mod hash;
mod random;

pub use buffer::Link;
pub use estimate::Estimator;
pub use settings::{Costs, Settings};
pub use sight::{Guess, Open, Sight};
pub(crate) use tally::thousandths;
pub use tally::{Counted, Expectation, Order};
