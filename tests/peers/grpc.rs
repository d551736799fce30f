//! gRPC of all four kinds, with grpcio on both ends.

use crate::compare::same_through_sidecars;
use crate::place::{has, program, python};
use crate::topology::Origin;

#[test]
fn grpcio() {
    if has("grpcio", &[&python(), "-c", "import grpc, grpc_status, grpc_health"]) {
        let origin = Origin::python("grpcio server", "grpc-server.py", &[]);
        same_through_sidecars("grpcio", &[&python(), &program("grpc-client.py"), "URL"], &[origin]);
    }
}
