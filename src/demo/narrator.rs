//! What the demo tells people who watch it in a terminal.

use std::{
    fmt,
    io::{IsTerminal as _, Write},
    net::SocketAddr,
    time::Duration,
};

use couplet_analyzer::findings::{Finding, Severity};

use super::{scenario::Scenario, verdict::Verdict};
use crate::output::name;

/// Tells the story of a demo, line by line.
pub(crate) struct Narrator {
    out: Box<dyn Write>,
    coloured: bool,
}

impl fmt::Debug for Narrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Narrator").field("coloured", &self.coloured).finish_non_exhaustive()
    }
}

impl Narrator {
    /// On standard output, for people.
    pub(crate) fn on_stdout() -> Self {
        Self { coloured: colours(std::io::stdout().is_terminal()), out: Box::new(std::io::stdout()) }
    }

    /// On standard error, where the story does not disturb the one object on standard output.
    pub(crate) fn on_stderr() -> Self {
        Self { coloured: colours(std::io::stderr().is_terminal()), out: Box::new(std::io::stderr()) }
    }

    /// What is about to be seen, and where.
    pub(crate) fn banner(&mut self, scenario: &Scenario, analyzer: SocketAddr, page: bool, length: Option<Duration>) {
        let title = self.paint(BOLD, &format!("Couplet demo: {}", scenario.about));
        self.line(&format!("{title} (scenario {})", scenario.name));
        self.line("real sockets, a sidecar beside every service; the analyzer knows only what the sidecars report");
        if page {
            let url = self.paint(BOLD, &format!("http://{analyzer}"));
            self.line(&format!("  page  {url}"));
        }
        match length {
            Some(length) => self.line(&format!("  ends  after {length:?}, or with Ctrl-C\n")),
            None => self.line("  ends  with Ctrl-C\n"),
        }
    }

    /// Something happened `after` so much time.
    pub(crate) fn tell(&mut self, after: Duration, what: &str) {
        let when = self.paint(DIM, &format!("t+{:02}s", after.as_secs()));
        self.line(&format!("{when}  {what}"));
    }

    /// The analyzer found something new.
    pub(crate) fn found(&mut self, after: Duration, finding: &Finding) {
        let severity = self.paint(colour_of(finding.severity), &format!("{:<8}", finding.severity.as_str()));
        self.tell(after, &format!("{severity} {:<9}  {}", name(&finding.id), name(&finding.title)));
    }

    /// How it ended.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        let requests = verdict.requests;
        let percent = |share: Option<f64>| share.map_or("none".to_owned(), |share| format!("{:.1} %", share * 100.0));
        self.line(&format!(
            "\n{} requests sent in {:.0} s, {} failed; the analyzer counted {} at {} services with {} edges",
            requests.sent, verdict.seconds, requests.failed, requests.counted, verdict.services, verdict.edges
        ));
        if requests.skipped > 0 {
            let skipped = requests.skipped;
            self.line(&format!("{skipped} more were not sent, because too many were waiting for their answers"));
        }
        self.line(&format!(
            "calls linked exactly: {}; where trace headers are forwarded: {}",
            percent(verdict.links.coverage),
            percent(verdict.links.forwarding_coverage)
        ));
        let width = verdict.planted.iter().map(|planted| planted.problem.chars().count()).max().unwrap_or(0);
        if width > 0 {
            self.line(&format!("\n  {:<width$}  rule  found", "planted problem"));
        }
        for planted in &verdict.planted {
            let found = match &planted.finding {
                Some(id) => self.paint(GREEN, &name(id)),
                None => self.paint(RED, "no"),
            };
            self.line(&format!("  {:<width$}  {:<4}  {found}", planted.problem, planted.rule.as_str()));
        }
        if !verdict.breakers.is_empty() {
            self.line("\ncircuit breakers that opened, or would have");
        }
        for line in verdict
            .breakers
            .iter()
            .flat_map(|edge| crate::breakers::paragraph(edge).lines().map(name).collect::<Vec<_>>())
        {
            self.line(&format!("  {line}"));
        }
        match verdict.reasons.as_slice() {
            [] => {
                let well = self.paint(GREEN, "ok");
                self.line(&format!("\nverdict: {well}"));
            }
            reasons => {
                let badly = self.paint(RED, "not ok");
                self.line(&format!("\nverdict: {badly}"));
                for reason in reasons {
                    self.line(&format!("  {}", name(reason)));
                }
            }
        }
    }

    fn line(&mut self, text: &str) {
        // Whoever closed the pipe has seen enough; the demo goes on for the page.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether colours help: a person looks on, and did not ask for none.
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn colour_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => DIM,
        Severity::Warn => YELLOW,
        Severity::Critical => RED,
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(coloured: bool, story: impl FnOnce(&mut Narrator)) -> String {
        let paper = Paper::default();
        story(&mut Narrator { out: Box::new(paper.clone()), coloured });
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    fn finding(title: &str) -> Finding {
        serde_json::from_value(serde_json::json!({
            "id": "SC-3fa9c1", "rule": "SC", "severity": "critical", "title": title, "summary": "", "services": [],
            "endpoints": [], "path": [], "evidence": {"n": 1, "linked": "exact", "formula": ""}, "why": "",
            "suggestions": []
        }))
        .unwrap()
    }

    #[test]
    fn a_finding_is_one_plain_line_with_its_time() {
        let text = told(false, |narrator| narrator.found(Duration::from_millis(8_300), &finding("a chain")));
        assert_eq!(text, "t+08s  critical SC-3fa9c1  a chain\n");
    }

    #[test]
    fn colours_are_used_only_where_they_are_wanted() {
        let story = |narrator: &mut Narrator| narrator.found(Duration::ZERO, &finding("a chain"));
        assert!(told(true, story).contains("\x1b[31mcritical\x1b[0m"));
        assert!(!told(false, story).contains('\x1b'));
    }

    #[test]
    fn a_hostile_title_cannot_steer_the_terminal() {
        let text = told(false, |narrator| narrator.found(Duration::ZERO, &finding("\x1b[2Jgone\r\n")));
        assert!(!text.contains('\x1b') && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    }
}
