//! Writes the seeds of `otlp`, which nobody can write by hand: `cargo run --example seeds` in this folder.

use std::path::Path;
use std::sync::Arc;

use couplet_telemetry::otlp::encode;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Loss, Window, WindowLimits};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/otlp");
    std::fs::create_dir_all(&folder)?;
    for (name, report) in [("empty", empty()), ("handling", handling()), ("call", call()), ("losses", losses())] {
        std::fs::write(folder.join(name), encode(&report))?;
    }
    Ok(())
}

fn empty() -> Report {
    close(window())
}

fn losses() -> Report {
    let mut window = window();
    Loss::ALL.into_iter().zip(1..).for_each(|(loss, count)| window.lose(loss, count));
    close(window)
}

fn handling() -> Report {
    let mut window = window();
    window.handling(&root(), &handled(&[]));
    window.handling(&below(), &handled(&[]));
    close(window)
}

fn call() -> Report {
    let mut window = window();
    let callee = Arc::new(Callee::new("stock", "GET /items/{id}"));
    let uses = [CalleeUse { callee: Arc::clone(&callee), calls: 2, failed: true, blocked: 20 }];
    let call = Call {
        outcome: Outcome::ServerError,
        duration: 1_000_000,
        first_byte: Some(900_000),
        blocking: true,
        evidence: Evidence::Inferred,
        attempts: 2,
        request_bytes: 3,
        response_bytes: 4,
    };
    window.call(&root(), &callee, &call);
    window.handling(&root(), &handled(&uses));
    close(window)
}

fn handled(uses: &[CalleeUse]) -> Handling<'_> {
    Handling {
        outcome: Outcome::Ok,
        duration: 2_000_000,
        blocked: 20,
        busy: 30,
        asynchronous: 1,
        calls: 2,
        callees: 1,
        depth_below: 1,
        calls_below: 100,
        services_below: 1,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        trace: None,
        uses,
    }
}

fn root() -> Arc<PathDefinition> {
    Arc::new(PathDefinition::root("shop", "GET /"))
}

fn below() -> Arc<PathDefinition> {
    let parent = PathId::root("front", "GET /");
    let id = parent.child("shop", "GET /");
    let caller = Some("front".to_owned());
    Arc::new(PathDefinition { id, parent: Some(parent), root: parent, caller, depth: 1, ..(*root()).clone() })
}

fn window() -> Window {
    Window::new(WindowLimits { paths: 4, callees: 4 })
}

fn close(mut window: Window) -> Report {
    let origin = Origin {
        service: "shop".to_owned(),
        instance: "shop-1".to_owned(),
        version: Some("1".to_owned()),
        inbound: Some("127.0.0.1:15406".to_owned()),
    };
    window.close(origin, 1, 1_000, 2_000)
}
