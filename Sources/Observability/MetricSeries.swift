// The values behind counters, gauges and histograms: what a hot path touches, so atomics and short locks only.
import Metrics
import Synchronization

/// One labelled value of a metric that can write itself in the Prometheus text format.
protocol MetricSeries: AnyObject, Sendable {
    /// Appends its sample lines. `labels` is `a="b",c="d"` or empty.
    func write(name: String, labels: String, to text: inout String)
}

/// A count that only grows.
final class CounterSeries: MetricSeries, CounterHandler {
    private let value = Atomic<Int64>(0)

    func increment(by amount: Int64) { if amount > 0 { value.add(amount, ordering: .relaxed) } }
    func reset() { value.store(0, ordering: .relaxed) }

    func write(name: String, labels: String, to text: inout String) {
        text.appendSample(name, labels, "\(value.load(ordering: .relaxed))")
    }
}

/// A fractional count that only grows.
final class FractionalCounterSeries: MetricSeries, FloatingPointCounterHandler {
    private let value = Mutex(0.0)

    func increment(by amount: Double) { if amount > 0 { value.withLock { $0 += amount } } }
    func reset() { value.withLock { $0 = 0 } }

    func write(name: String, labels: String, to text: inout String) {
        text.appendSample(name, labels, prometheus(value.withLock { $0 }))
    }
}

/// A value that goes up and down.
final class GaugeSeries: MetricSeries, RecorderHandler, MeterHandler {
    private let value = Mutex(0.0)

    func record(_ new: Int64) { record(Double(new)) }
    func record(_ new: Double) { value.withLock { $0 = new } }
    func set(_ new: Int64) { record(Double(new)) }
    func set(_ new: Double) { record(new) }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { value.withLock { $0 -= amount } }

    func write(name: String, labels: String, to text: inout String) {
        text.appendSample(name, labels, prometheus(value.withLock { $0 }))
    }
}

/// A distribution in fixed buckets.
final class HistogramSeries: MetricSeries, RecorderHandler, TimerHandler {
    private struct State {
        var counts: [UInt64]
        var sum = 0.0
    }

    /// Upper bounds of the buckets, rising; the last bucket (+Inf) is implied.
    private let bounds: [Double]
    private let state: Mutex<State>

    init(bounds: [Double]) {
        self.bounds = bounds
        self.state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    /// Bounds for durations in seconds: half a millisecond to ten minutes.
    static let seconds: [Double] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600,
    ]
    /// Bounds for sizes in bytes: 1 KiB to 256 MiB.
    static let bytes: [Double] = (0..<10).map { Double(1024 << (2 * $0)) }
    /// Bounds for counts: 1 to 4096.
    static let counts: [Double] = (0..<13).map { Double(1 << $0) }

    func record(_ value: Int64) { record(Double(value)) }
    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }

    func record(_ value: Double) {
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock {
            $0.counts[bucket] += 1
            $0.sum += value
        }
    }

    func write(name: String, labels: String, to text: inout String) {
        let (counts, sum) = state.withLock { ($0.counts, $0.sum) }
        var total: UInt64 = 0
        for (bound, count) in zip(bounds, counts) {
            total += count
            text.appendSample("\(name)_bucket", join(labels, #"le="\#(prometheus(bound))""#), "\(total)")
        }
        total += counts[bounds.count]
        text.appendSample("\(name)_bucket", join(labels, #"le="+Inf""#), "\(total)")
        text.appendSample("\(name)_sum", labels, prometheus(sum))
        text.appendSample("\(name)_count", labels, "\(total)")
    }

    private func join(_ labels: String, _ more: String) -> String {
        labels.isEmpty ? more : "\(labels),\(more)"
    }
}

extension String {
    mutating func appendSample(_ name: String, _ labels: String, _ value: String) {
        self += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }
}

/// A number as the text format writes it: whole numbers without a fraction, `NaN`, `+Inf`, `-Inf`.
func prometheus(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded(), abs(value) < 1e15 { return "\(Int64(value))" }
    return "\(value)"
}
