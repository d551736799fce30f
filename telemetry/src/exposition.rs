//! The text format of Prometheus, version 0.0.4, as the proxy and the analyzer both serve it.

mod machine;

use std::fmt::Write;

pub use machine::write_process;

use crate::histogram::{Histogram, seconds};

/// Media type of the text format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets, seconds. Calls inside a mesh are short, so they begin at half a millisecond.
const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What a family measures.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// A page of metrics, family by family.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, explanation: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {explanation}\n# TYPE {name} {kind}\n"));
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        self.labels(labels, None);
        self.line(format_args!(" {value}\n"));
    }

    /// All samples of one histogram. A bucket of ours that a bound cuts is counted above the bound, so that no bound
    /// claims more than is certain.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        for bound in BUCKETS {
            self.bucket(name, labels, &bound.to_string(), histogram.at_most(bound));
        }
        self.bucket(name, labels, "+Inf", histogram.count());
        self.sample(&format!("{name}_sum"), labels, seconds(histogram.sum()));
        self.sample(&format!("{name}_count"), labels, histogram.count() as f64);
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.0
    }

    fn bucket(&mut self, name: &str, labels: &[(&str, &str)], bound: &str, count: u64) {
        self.0.push_str(name);
        self.0.push_str("_bucket");
        self.labels(labels, Some(("le", bound)));
        self.line(format_args!(" {count}\n"));
    }

    fn labels(&mut self, labels: &[(&str, &str)], last: Option<(&str, &str)>) {
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.0.push(separator);
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
    }

    /// Names come from strangers: whatever they hold, a label ends where it should.
    fn escaped(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                letter => self.0.push(letter),
            }
        }
    }

    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(arguments); // writing to a string cannot fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_where_it_should_whatever_it_holds() {
        let mut text = Text::default();
        text.sample("x", &[("a", "say \"hi\"\\\n}"), ("b", "")], 1.5);
        text.sample("y", &[], 2.0);
        assert_eq!(text.finish(), "x{a=\"say \\\"hi\\\"\\\\\\n}\",b=\"\"} 1.5\ny 2\n");
    }

    #[test]
    fn the_buckets_of_a_histogram_never_fall_and_end_with_its_count() {
        let mut histogram = Histogram::default();
        for nanos in [0, 400_000, 3_000_000, 40_000_000_000] {
            histogram.record(nanos);
        }
        let mut text = Text::default();
        text.histogram("x", &[("client", "a")], &histogram);
        let text = text.finish();
        let counts: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("x_bucket"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(counts.is_sorted());
        assert_eq!((counts[0], counts[3], counts[15]), (2, 3, 4));
        assert!(text.contains("x_bucket{client=\"a\",le=\"0.0005\"} 2\n"), "{text}");
        assert!(text.ends_with("x_sum{client=\"a\"} 40.0034\nx_count{client=\"a\"} 4\n"), "{text}");
    }
}
