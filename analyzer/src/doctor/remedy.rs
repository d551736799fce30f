//! What makes an HTTP client pass trace headers on.

use couplet_telemetry::propagation::Client;

/// What to do, in a sentence or two.
pub(super) fn of(client: Client) -> &'static str {
    match client {
        Client::Requests | Client::Urllib => {
            "Python requests and urllib: start the service with opentelemetry-instrument and \
             opentelemetry-instrumentation-requests (-urllib) installed, or copy the headers of the request to the call."
        }
        Client::HttpX => {
            "Python httpx: start the service with opentelemetry-instrument and opentelemetry-instrumentation-httpx installed; \
             clients that exist before it runs are not seen, HTTPXClientInstrumentor().instrument_client(client) names them."
        }
        Client::Aiohttp => {
            "Python aiohttp: start the service with opentelemetry-instrument and opentelemetry-instrumentation-aiohttp-client \
             installed, or copy the headers in a TraceConfig."
        }
        Client::Go => {
            "Go net/http: give the client the transport otelhttp.NewTransport(http.DefaultTransport), and make requests with \
             http.NewRequestWithContext and the context of the incoming request; without it nothing can be passed on."
        }
        Client::Undici | Client::NodeFetch | Client::Axios => {
            "Node.js: start with --import @opentelemetry/auto-instrumentations-node/register (fetch needs \
             @opentelemetry/instrumentation-undici), or set the headers on each call."
        }
        Client::Java | Client::ApacheHttp | Client::Okhttp => {
            "Java: start with -javaagent:opentelemetry-javaagent.jar; with Spring Boot and Micrometer Tracing build clients \
             from the injected RestClient.Builder or RestTemplateBuilder, not with new."
        }
        Client::ReactorNetty => {
            "Java, reactive: build clients from the injected WebClient.Builder and set \
             spring.reactor.context-propagation=auto, or start with -javaagent:opentelemetry-javaagent.jar."
        }
        Client::DotNet | Client::GrpcDotNet => {
            ".NET: HttpClient passes `traceparent` on while an Activity is current; ASP.NET Core begins one for each request \
             unless nobody listens: add OpenTelemetry with AddAspNetCoreInstrumentation()."
        }
        Client::GrpcGo => {
            "Go gRPC: dial with grpc.WithStatsHandler(otelgrpc.NewClientHandler()), serve with otelgrpc.NewServerHandler(), and \
             pass the context of the incoming call to the outgoing one."
        }
        Client::GrpcJava => {
            "Java gRPC: start with -javaagent:opentelemetry-javaagent.jar, or add GrpcTelemetry's client and server \
             interceptors."
        }
        Client::GrpcPython => {
            "Python gRPC: start with opentelemetry-instrument and opentelemetry-instrumentation-grpc installed, or copy the \
             metadata of the call."
        }
        Client::GrpcNode => {
            "Node.js gRPC: start with --import @opentelemetry/auto-instrumentations-node/register, or copy the metadata of the \
             call."
        }
        Client::GrpcC => {
            "gRPC for C++, Ruby or PHP: copy `traceparent` and `tracestate` from the metadata of each call."
        }
        Client::Faraday | Client::Ruby => {
            "Ruby: use OpenTelemetry's instrumentations (faraday, net_http, rack) with c.use_all, or copy the headers of the \
             request."
        }
        Client::Guzzle => {
            "PHP: install the opentelemetry extension with opentelemetry-auto-guzzle, or copy the headers of the request."
        }
        Client::Reqwest => {
            "Rust reqwest: wrap the client with reqwest-tracing's TracingMiddleware, or copy the headers of the request."
        }
        Client::Curl => "curl: pass the headers with -H.",
        Client::Silent => {
            "The client does not say what it is (Node's http and .NET's HttpClient are like that): switch its tracing library's \
             propagation on, or copy the headers of the request."
        }
        Client::Other => {
            "Switch on the propagation of the client's tracing library, or copy the headers of the request."
        }
    }
}
