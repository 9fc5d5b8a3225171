import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;

/**
 * The Yahoo query in Kafka Streams: views per campaign and 10 s of event time.
 *
 * <p>The value's deserializer reads the JSON once, with Jackson's streaming parser, and only as far as the fields that are
 * needed; the timestamp extractor and the filter look at what it found. Views are re-keyed by campaign through a
 * repartition topic whose values are empty. Counts live in the default window store (RocksDB with cache and
 * changelog), at least once. It ends when all views have come through the repartition topic; closing flushes the rest.
 */
public final class YahooStreams {
    record Event(String ad, boolean view, long timeMs) {}

    private static final JsonFactory JSON = new JsonFactory();

    private static Event read(String topic, byte[] value) {
        if (value == null) {
            return null;
        }
        String ad = null;
        String type = null;
        String time = null;
        try (JsonParser parser = JSON.createParser(value)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                return null;
            }
            while ((ad == null || type == null || time == null) && parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                JsonToken token = parser.nextToken();
                switch (name) {
                    case "ad_id" -> ad = token == JsonToken.VALUE_STRING ? parser.getText() : null;
                    case "event_type" -> type = parser.getText();
                    case "event_time" -> time = parser.getText();
                    default -> parser.skipChildren();
                }
            }
            return ad == null || type == null || time == null ? null : new Event(ad, type.equals("view"), Long.parseLong(time));
        } catch (IOException | NumberFormatException malformed) {
            return null;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        long views = Long.parseLong(arguments[2]);
        Map<String, String> campaigns = new HashMap<>();
        for (String line : Files.readAllLines(Path.of(arguments[3]))) {
            campaigns.put(line.substring(0, line.indexOf(',')), line.substring(line.indexOf(',') + 1));
        }

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "yahoo-" + Path.of(arguments[5]).getFileName());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[5] + "/state");
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 5000);
        settings.put(StreamsConfig.producerPrefix("linger.ms"), 50);

        Deserializer<Event> deserializer = YahooStreams::read;
        Serializer<Event> serializer = (where, event) -> null;
        Serde<Event> events = Serdes.serdeFrom(serializer, deserializer);
        LongAdder counted = new LongAdder();
        Map<String, Long> answer = new ConcurrentHashMap<>();

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(
                        topic,
                        Consumed.with(Serdes.ByteArray(), events)
                                // What cannot be read has no time: Kafka Streams leaves it out.
                                .withTimestampExtractor((record, latest) -> record.value() == null ? -1 : ((Event) record.value()).timeMs()))
                .filter((key, event) -> event.view())
                .map((key, event) -> org.apache.kafka.streams.KeyValue.pair(campaigns.get(event.ad()), new byte[0]))
                .filter((campaign, nothing) -> campaign != null)
                .repartition(Repartitioned.with(Serdes.String(), Serdes.ByteArray()))
                .peek((campaign, nothing) -> counted.increment())
                .groupByKey()
                // Partitions are read at different speeds, and nothing may be lost as late.
                .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofDays(1)))
                .count()
                .toStream()
                .foreach((Windowed<String> window, Long count) -> answer.put(window.key() + "\t" + window.window().start(), count));

        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.start();
        while (counted.sum() < views && streams.state() != KafkaStreams.State.ERROR) {
            TimeUnit.MILLISECONDS.sleep(50);
        }
        if (!streams.close(Duration.ofSeconds(60)) || counted.sum() < views) {
            System.exit(1);
        }
        try (BufferedWriter out = Files.newBufferedWriter(Path.of(arguments[4]))) {
            for (Map.Entry<String, Long> entry : answer.entrySet()) {
                out.write(entry.getKey() + "\t" + entry.getValue() + "\n");
            }
        }
    }
}
