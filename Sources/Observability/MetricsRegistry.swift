// The metrics of a process, behind swift-metrics and in the Prometheus text format.
import Metrics
import Synchronization

/// Collects what `Counter`, `Gauge`, `Meter`, `Recorder` and `Timer` of swift-metrics report and writes it in the
/// Prometheus text exposition format 0.0.4. Names are written as Prometheus wants them (`zegel_edge_messages`): a
/// counter gets `_total` and a timer `_seconds` where it lacks them.
///
/// Label sets are bounded: past `seriesLimit` of one metric, new ones are counted together under `other`.
public final class MetricsRegistry: MetricsFactory {
    private enum Kind: String { case counter, gauge, histogram }

    private struct Family {
        var kind: Kind
        var series: [String: any MetricSeries] = [:]
    }

    private struct State {
        var families: [String: Family] = [:]
        var help: [String: String] = [:]
        var overflowed = 0
    }

    /// Label sets of one metric, beyond which they are counted together.
    public let seriesLimit: Int
    private let state = Mutex(State())

    /// Makes an empty registry.
    public init(seriesLimit: Int = 200) { self.seriesLimit = seriesLimit }

    /// Makes this registry the one that every metric of the process reports to. Once per process.
    public func bootstrap() { MetricsSystem.bootstrap(self) }

    /// Says what a metric means, for `# HELP`. `name` is as in the code or as exposed.
    public func describe(_ name: String, _ help: String) {
        state.withLock { $0.help[Self.cleanName(name)] = help }
    }

    // MARK: MetricsFactory

    /// See `MetricsFactory`.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(Self.cleanName(label, suffix: "_total"), .counter, dimensions) { CounterSeries() }
    }

    /// See `MetricsFactory`.
    public func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(Self.cleanName(label, suffix: "_total"), .counter, dimensions) { FractionalCounterSeries() }
    }

    /// See `MetricsFactory`.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(Self.cleanName(label), .gauge, dimensions) { GaugeSeries() }
    }

    /// See `MetricsFactory`. Aggregating recorders are histograms, the others gauges.
    public func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        let name = Self.cleanName(label)
        guard aggregate else { return series(name, .gauge, dimensions) { GaugeSeries() } }
        let bounds =
            name.hasSuffix("_seconds")
            ? HistogramSeries.seconds
            : name.hasSuffix("_bytes") ? HistogramSeries.bytes : HistogramSeries.counts
        return series(name, .histogram, dimensions) { HistogramSeries(bounds: bounds) }
    }

    /// See `MetricsFactory`.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(Self.cleanName(label, suffix: "_seconds"), .histogram, dimensions) {
            HistogramSeries(bounds: HistogramSeries.seconds)
        }
    }

    // Values outlive the objects that report them: a counter that is made again goes on.
    /// See `MetricsFactory`.
    public func destroyCounter(_ handler: any CounterHandler) {}
    /// See `MetricsFactory`.
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    /// See `MetricsFactory`.
    public func destroyMeter(_ handler: any MeterHandler) {}
    /// See `MetricsFactory`.
    public func destroyRecorder(_ handler: any RecorderHandler) {}
    /// See `MetricsFactory`.
    public func destroyTimer(_ handler: any TimerHandler) {}

    private func series<S: MetricSeries>(
        _ name: String, _ kind: Kind, _ dimensions: [(String, String)], make: () -> S
    ) -> S {
        state.withLock { state in
            var family = state.families[name] ?? Family(kind: kind)
            // Two meanings of one name: the second is not exposed, rather than spoiling the first.
            guard family.kind == kind else { return make() }
            var labels = Self.labels(dimensions)
            if family.series[labels] == nil, family.series.count >= seriesLimit {
                state.overflowed += 1
                labels = Self.labels(dimensions.map { ($0.0, "other") })
            }
            if let known = family.series[labels] { return known as? S ?? make() }
            let new = make()
            family.series[labels] = new
            state.families[name] = family
            return new
        }
    }

    // MARK: Exposition

    /// All metrics in the text format, sorted by name.
    public func exposition() -> String {
        let (families, help, overflowed) = state.withLock { ($0.families, $0.help, $0.overflowed) }
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            let words = help[name] ?? help[Self.withoutSuffix(name)] ?? Self.words(name)
            Self.appendHead(name, family.kind.rawValue, words, to: &text)
            for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
                series.write(name: name, labels: labels, to: &text)
            }
        }
        let overflow = "zegel_metrics_overflowed_label_sets_total"
        Self.appendHead(
            overflow, "counter", "Label sets counted together because there were too many.", to: &text)
        text.appendSample(overflow, "", "\(overflowed)")
        return text
    }

    static func appendHead(_ name: String, _ kind: String, _ help: String, to text: inout String) {
        let help = help.replacing("\\", with: "\\\\").replacing("\n", with: "\\n")
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`, with the suffix that the kind asks for.
    private static func cleanName(_ label: String, suffix: String = "") -> String {
        var name = String(
            label.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == ":") ? $0 : "_" })
        if name.first?.isNumber ?? true { name = "_" + name }
        return name.hasSuffix(suffix) ? name : name + suffix
    }

    private static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.sorted { $0.0 < $1.0 }.map { name, value in
            let value = value.prefix(120).replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                .replacing("\n", with: "\\n")
            return "\(cleanName(name).replacing(":", with: "_"))=\"\(value)\""
        }.joined(separator: ",")
    }

    private static func withoutSuffix(_ name: String) -> String {
        for suffix in ["_total", "_seconds"] where name.hasSuffix(suffix) {
            return String(name.dropLast(suffix.count))
        }
        return name
    }

    private static func words(_ name: String) -> String {
        name.split(separator: "_").joined(separator: " ") + "."
    }
}
