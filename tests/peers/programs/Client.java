// Java's HttpClient: `java Client.java URL http1.1 | http2`. With http2 it asks to upgrade (h2c), which a server may ignore.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;

public class Client {
    static final int BIG = 8 * 1024 * 1024 + 17;
    static String base;
    static HttpClient client;

    static byte[] letters(int count) {
        byte[] alphabet = "abcdefghijklmnopqrstuvwxyz0123456789".getBytes(StandardCharsets.US_ASCII);
        byte[] bytes = new byte[count];
        for (int at = 0; at < count; at++) bytes[at] = alphabet[at % alphabet.length];
        return bytes;
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static String body(byte[] content) throws Exception {
        if (content.length <= 20_000) return new String(content, StandardCharsets.ISO_8859_1);
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(content);
        return content.length + " bytes, sha256 " + HexFormat.of().formatHex(hash);
    }

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(40));
    }

    static void ask(String name, HttpRequest.Builder request) throws Exception {
        HttpResponse<byte[]> response = client.send(request.build(), BodyHandlers.ofByteArray());
        List<String> fields = new ArrayList<>();
        response.headers().map().forEach((field, values) -> {
            for (String value : values) fields.add("[" + quoted(field) + "," + quoted(value) + "]");
        });
        System.out.println("{\"case\":" + quoted(name) + ",\"status\":" + response.statusCode() + ",\"version\":"
            + quoted(response.version().toString()) + ",\"fields\":[" + String.join(",", fields) + "],\"body\":"
            + quoted(body(response.body())) + "}");
    }

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        HttpClient.Version version =
            arguments[1].equals("http2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1;
        client = HttpClient.newBuilder().version(version).followRedirects(HttpClient.Redirect.NORMAL).build();
        ask("get", to("/hello"));
        ask("head", to("/hello").method("HEAD", BodyPublishers.noBody()));
        ask("fields", to("/headers").header("X-MiXeD", "1").header("X-Twice", "1").header("X-Twice", "2"));
        ask("query", to("/headers?a=b%20c&u=%C3%BC&e="));
        ask("json", to("/echo").header("content-type", "application/json").PUT(BodyPublishers.ofString("{\"a\":[1,2]}")));
        ask("a large upload", to("/upload").POST(BodyPublishers.ofByteArray(letters(BIG))));
        ask("a generated upload",
            to("/upload").POST(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(letters(500_000)))));
        // Over HTTP/2 the client of Java 17 waits for ever here, whatever the server says.
        if (!base.startsWith("https")) ask("an upload that waits", to("/upload").expectContinue(true).POST(BodyPublishers.ofByteArray(letters(1000))));
        ask("a large download", to("/bytes/" + BIG));
        ask("chunks", to("/chunked"));
        ask("gzip", to("/gzip"));
        ask("a redirect", to("/redirect"));
        ask("cookies", to("/cookies"));
        ask("many fields", to("/many"));
        for (int status : new int[] {204, 304, 404, 500}) ask("status " + status, to("/status/" + status));
        ask("delete", to("/headers").DELETE());
        ask("patch", to("/headers").method("PATCH", BodyPublishers.ofString("abc")));

        List<CompletableFuture<HttpResponse<byte[]>>> together = new ArrayList<>();
        for (int at = 0; at < 50; at++) {
            together.add(client.sendAsync(to("/bytes/" + at * 5000).build(), BodyHandlers.ofByteArray()));
        }
        List<String> sizes = new ArrayList<>();
        for (CompletableFuture<HttpResponse<byte[]>> one : together) sizes.add("" + one.get().body().length);
        System.out.println("{\"case\":\"fifty at once\",\"sizes\":[" + String.join(",", sizes) + "]}");

        String name = "java-" + arguments[1];
        List<String> events = new ArrayList<>();
        for (String line : (Iterable<String>) client.send(to("/events/" + name).build(), BodyHandlers.ofLines()).body()::iterator) {
            events.add(quoted(line));
            if (line.isEmpty()) client.send(to("/confirm/" + name).build(), BodyHandlers.discarding());
        }
        System.out.println("{\"case\":\"events as they happen\",\"events\":[" + String.join(",", events) + "]}");
    }
}
