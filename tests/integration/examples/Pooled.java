import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.util.*;

/** Sends signed pushes on pooled connections of java.net.http. The input is that of pooled.go; options are properties. */
public class Pooled {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static String send(String[] fields) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(fields[2]))
            .POST(HttpRequest.BodyPublishers.ofString(fields[3]));
        for (int at = 4; at < fields.length; at++) {
            String[] header = fields[at].split(": ", 2);
            request.header(header[0], header[1]);
        }
        try {
            return "" + CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString()).statusCode();
        } catch (Exception error) {
            return error.toString();
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, List<String[]>> workers = new HashMap<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] fields = line.split("\t");
            workers.computeIfAbsent(fields[0], name -> new ArrayList<>()).add(fields);
        }
        List<Thread> threads = new ArrayList<>();
        for (List<String[]> lines : workers.values()) {
            Thread thread = new Thread(() -> {
                for (String[] fields : lines) {
                    try {
                        Thread.sleep(Long.parseLong(fields[1]));
                    } catch (InterruptedException error) {
                        throw new IllegalStateException(error);
                    }
                    System.out.println(send(fields));
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) thread.join();
    }
}
