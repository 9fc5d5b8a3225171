import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * The static table as a function: ad to campaign, null for an unknown ad.
 *
 * <p>Flink SQL has no broadcast join of a stream with a static table: a regular join would keep every event as state.
 */
public final class CampaignOf extends ScalarFunction {
    private transient Map<String, String> campaigns;

    @Override
    public void open(FunctionContext context) throws Exception {
        campaigns = new HashMap<>();
        for (String line : Files.readAllLines(Path.of(context.getJobParameter("ads", "")))) {
            campaigns.put(line.substring(0, line.indexOf(',')), line.substring(line.indexOf(',') + 1));
        }
    }

    public String eval(String ad) {
        return campaigns.get(ad);
    }
}
