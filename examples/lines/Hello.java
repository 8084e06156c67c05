// Publishes a message, receives it and acks it. Needs Java 11 alone: java Hello.java
import java.io.*; import java.net.Socket; import java.util.regex.*;
import static java.nio.charset.StandardCharsets.UTF_8;
public class Hello {
    static BufferedReader in; static Writer out;
    static String ask(String line) throws IOException { out.write(line + "\n"); out.flush(); String reply = in.readLine(); System.out.println(reply); return reply; }
    public static void main(String[] args) throws IOException {
        var env = System.getenv(); var server = new Socket(env.getOrDefault("GMQ_HOST", "localhost"), Integer.parseInt(env.getOrDefault("GMQ_PORT", "4567")));
        in = new BufferedReader(new InputStreamReader(server.getInputStream(), UTF_8)); out = new OutputStreamWriter(server.getOutputStream(), UTF_8);
        ask("{\"op\":\"publish\",\"queue\":\"hello\",\"body\":{\"from\":\"Java\"}}");
        Matcher m = Pattern.compile("\"seq\":(\\d+)").matcher(ask("{\"op\":\"receive\",\"queue\":\"hello\",\"wait\":\"5s\"}"));
        if (m.find()) ask("{\"op\":\"ack\",\"queue\":\"hello\",\"seq\":" + m.group(1) + "}");
    }
}
