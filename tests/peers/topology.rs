//! Origins, and the two sidecars before them.

use std::net::{SocketAddr, TcpStream};

use tempfile::TempDir;

use crate::harness::{Program, couplet, eventually, free_port};
use crate::place::{command, program, python};

/// A server that nobody here wrote. Ends when dropped.
pub(crate) struct Origin {
    /// What the table calls it.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    _program: Program,
    _folder: Option<TempDir>,
    /// What it asks itself.
    _behind: Option<Box<Origin>>,
}

impl Origin {
    /// A program that says `ready PORT`.
    pub(crate) fn start(name: &str, words: &[&str]) -> Self {
        let mut running = Program::start(&mut command(words));
        let port: u16 = running.says(|line| line.strip_prefix("ready ")?.trim().parse().ok());
        Self { name: name.to_owned(), address: local(port), _program: running, _folder: None, _behind: None }
    }

    /// A script for Node.
    pub(crate) fn node(name: &str, script: &str, arguments: &[&str]) -> Self {
        Self::start(name, &[&["node", &program(script)], arguments].concat())
    }

    /// A script for Python.
    pub(crate) fn python(name: &str, script: &str, arguments: &[&str]) -> Self {
        Self::start(name, &[&[python().as_str(), &program(script)], arguments].concat())
    }

    /// nginx, which asks `behind` over HTTP/1.1. It speaks the protocol that `listen` says.
    pub(crate) fn nginx(listen: &str, behind: Origin) -> Self {
        let upstream = behind.address;
        let settings = |port: u16, folder: &str| {
            let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|path| format!("{path}_temp_path {folder}/{path};"))
                .concat();
            format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
                 events {{}}
                 http {{ access_log off; {paths} client_max_body_size 100m; keepalive_timeout 60;
                   server {{ listen 127.0.0.1:{port} {listen};
                     location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $http_host;
                       proxy_set_header Connection ''; proxy_buffering off;
                       proxy_buffers 8 64k; proxy_buffer_size 64k; }} }} }}"
            )
        };
        let start = |file: &str, folder: &str| command(&["/usr/sbin/nginx", "-p", folder, "-c", file]);
        Self::configured("nginx", settings, start, behind)
    }

    /// HAProxy, which asks `behind` over the protocol `proto` and itself takes HTTP/1.1 and HTTP/2 by prior knowledge.
    pub(crate) fn haproxy(proto: &str, behind: Origin) -> Self {
        let upstream = behind.address;
        let settings = |port: u16, _folder: &str| {
            format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 frontend in\n bind 127.0.0.1:{port}\n default_backend out\n\
                 backend out\n server origin {upstream} proto {proto}\n"
            )
        };
        let start = |file: &str, _folder: &str| command(&["/usr/sbin/haproxy", "-db", "-f", file]);
        Self::configured("haproxy", settings, start, behind)
    }

    /// A server that is told its port in a file.
    fn configured(
        name: &str,
        settings: impl Fn(u16, &str) -> String,
        start: impl Fn(&str, &str) -> std::process::Command,
        behind: Origin,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().to_str().unwrap().to_owned();
        let (port, file) = (free_port(), format!("{inside}/settings"));
        std::fs::write(&file, settings(port, &inside)).unwrap();
        let running = Program::start(&mut start(&file, &inside));
        eventually("the server listens", || TcpStream::connect(local(port)).ok());
        Self {
            name: format!("{name}, {}", behind.name),
            address: local(port),
            _program: running,
            _folder: Some(folder),
            _behind: Some(Box::new(behind)),
        }
    }
}

/// The sidecar of the caller and the sidecar of the origin.
pub(crate) struct Sidecars {
    /// Where the caller finds the origin.
    pub(crate) outbound: SocketAddr,
    /// The caller's sidecar as explicit proxy.
    pub(crate) explicit: SocketAddr,
    _caller: Program,
    _callee: Program,
}

impl Sidecars {
    /// Two sidecars before `origin`.
    pub(crate) fn before(origin: SocketAddr) -> Self {
        let mut callee = Program::start(&mut couplet(&format!(
            "proxy --service stock --app {origin} --inbound 127.0.0.1:0 --admin off --log-format json"
        )));
        let inbound = callee.listener("inbound");
        let mut caller = Program::start(&mut couplet(&format!(
            "proxy --service shop --to stock@127.0.0.1:0={inbound} --explicit 127.0.0.1:0 --admin off --log-format json"
        )));
        let (outbound, explicit) = (caller.listener("outbound"), caller.listener("explicit"));
        Self { outbound, explicit, _caller: caller, _callee: callee }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
