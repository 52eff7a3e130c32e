import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.lucene.analysis.Analyzer;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.analysis.AnalyzerProvider;
import org.opensearch.index.analysis.PreBuiltAnalyzerProviderFactory;
import org.opensearch.index.analysis.PreConfiguredTokenizer;
import org.opensearch.index.analysis.TokenizerFactory;
import org.opensearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;

/** One OpenSearch node from jars on the class path: arguments are `setting=value`, and `plugin=class`. */
public final class EmbeddedOpenSearch extends Node {
  private static final long CLOSE_S = 10;

  private EmbeddedOpenSearch(Settings settings, Collection<Class<? extends Plugin>> plugins) {
    super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "embedded"), plugins, true);
  }

  public static void main(String[] arguments) throws Exception {
    Settings.Builder settings = Settings.builder();
    List<Class<? extends Plugin>> plugins = new ArrayList<>();
    for (String argument : arguments) {
      int at = argument.indexOf('=');
      String name = argument.substring(0, at);
      String value = argument.substring(at + 1);
      if (name.equals("plugin")) {
        plugins.add(Class.forName(value).asSubclass(Plugin.class));
      } else {
        settings.put(name, value);
      }
    }
    EmbeddedOpenSearch node = new EmbeddedOpenSearch(settings.build(), plugins);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    Thread.currentThread().join();
  }

  private static void close(Node node) {
    try {
      node.close();
      node.awaitClose(CLOSE_S, TimeUnit.SECONDS);
    } catch (Exception error) {
      error.printStackTrace();
    }
  }

  /** Analysis without Thai, whose words this Java cannot find; with it, no index could be made. */
  public static final class Analysis extends CommonAnalysisPlugin {
    private static final String LEFT_OUT = "thai";

    @Override
    public List<PreConfiguredTokenizer> getPreConfiguredTokenizers() {
      return super.getPreConfiguredTokenizers().stream()
          .filter(each -> !each.getName().equals(LEFT_OUT))
          .collect(Collectors.toList());
    }

    @Override
    public List<PreBuiltAnalyzerProviderFactory> getPreBuiltAnalyzerProviderFactories() {
      return super.getPreBuiltAnalyzerProviderFactories().stream()
          .filter(each -> !each.getName().equals(LEFT_OUT))
          .collect(Collectors.toList());
    }

    @Override
    public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
      return without(super.getTokenizers());
    }

    @Override
    public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
      return without(super.getAnalyzers());
    }

    private static <T> Map<String, T> without(Map<String, T> all) {
      Map<String, T> rest = new TreeMap<>(all);
      rest.remove(LEFT_OUT);
      return rest;
    }
  }
}
