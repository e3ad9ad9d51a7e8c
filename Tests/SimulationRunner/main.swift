// simulate: many histories from one seed on all cores, the flaws that they must find, or one history alone with its trace.

import Foundation
import Simulation
import Synchronization

let usage = """
    simulate [--histories N] [--seed S] [--flaw NAME]
    simulate --flaws [--within N] [--seed S]
    ZEGEL_SIM_SEED=S simulate [--flaw NAME] …    that history alone, told line by line
    """

let words = Array(CommandLine.arguments.dropFirst())
func value(_ name: String) -> String? {
    guard let index = words.firstIndex(of: name), index + 1 < words.endIndex else { return nil }
    return words[index + 1]
}

func fail(_ why: String, status: Int32) -> Never {
    print(why)
    exit(status)
}

/// The value of an option that names a case.
func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, _: Choice.Type) -> Choice?
where Choice.RawValue == String {
    guard let text = value(name) else { return nil }
    guard let choice = Choice(rawValue: text) else {
        fail("\(name): one of \(Choice.allCases.map(\.rawValue).joined(separator: " "))", status: 64)
    }
    return choice
}

/// The value of an option that is a number.
func number<Number: FixedWidthInteger>(_ name: String, default fallback: Number) -> Number {
    guard let text = value(name) else { return fallback }
    guard let number = Number(text), number >= 0 else { fail("\(name): a number", status: 64) }
    return number
}

/// Runs what each index asks for, on all cores.
func spread(_ count: Int, _ body: @Sendable (Int) -> Void) {
    let next = Atomic(0)
    let cores = max(1, ProcessInfo.processInfo.activeProcessorCount)
    DispatchQueue.concurrentPerform(iterations: cores) { _ in
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            if index >= count { return }
            body(index)
        }
    }
}

struct Total {
    var steps = 0
    var messages = 0
    var doubles = 0
    var failed: [History] = []
}

func seconds(since began: ContinuousClock.Instant) -> String {
    String(format: "%.1f s", (ContinuousClock.now - began) / .seconds(1))
}

/// One history, told.
func replay(_ seed: UInt64, _ flaw: Flaw?) -> Never {
    let history = History.run(seed: seed, flaw: flaw, isTraced: true)
    for line in history.trace { print(line) }
    if history.violations.isEmpty { fail("seed \(seed): nothing is violated", status: 0) }
    fail("seed \(seed): \(history.violations.joined(separator: "; "))", status: 1)
}

/// Each flaw must break a law within so many histories.
func findFlaws(_ seed: UInt64, within count: Int) -> Never {
    let flaws = Flaw.allCases.filter { !$0.isRare }
    print("\(flaws.count) flaws, from seed \(seed)")
    let missed = Mutex<[Flaw]>([])
    spread(flaws.count) { index in
        let flaw = flaws[index]
        if let (history, tried) = flaw.find(from: seed, within: count) {
            print("\(flaw): history \(tried), seed \(history.seed): \(history.violations[0])")
        } else {
            missed.withLock { $0.append(flaw) }
        }
    }
    let left = missed.withLock { $0 }
    for flaw in left { print("FAILS: \(flaw) breaks no law in \(count) histories") }
    exit(left.isEmpty ? 0 : 1)
}

/// No history may break a law.
func run(_ count: Int, _ seed: UInt64, _ flaw: Flaw?) -> Never {
    print("\(count) histories from seed \(seed)")
    let began = ContinuousClock.now
    let total = Mutex(Total())
    let piece = 100
    spread((count + piece - 1) / piece) { part in
        var mine = Total()
        for index in part * piece..<min((part + 1) * piece, count) {
            let history = History.run(seed: History.seed(seed, index), flaw: flaw)
            mine.steps += history.steps
            mine.messages += history.messages
            mine.doubles += history.doubles
            if !history.violations.isEmpty { mine.failed.append(history) }
        }
        let sum = mine
        total.withLock { total in
            total.steps += sum.steps
            total.messages += sum.messages
            total.doubles += sum.doubles
            total.failed += sum.failed
        }
    }
    let sum = total.withLock { $0 }
    print(
        "\(count) histories, \(sum.steps) steps, \(sum.messages) messages, \(sum.doubles) marked doubles, \(sum.failed.count) broken: \(seconds(since: began))"
    )
    for history in sum.failed.prefix(10) {
        print("FAILS: seed \(history.seed): \(history.violations.prefix(2).joined(separator: "; "))")
    }
    if let first = sum.failed.first { print("ZEGEL_SIM_SEED=\(first.seed) tells one") }
    exit(sum.failed.isEmpty ? 0 : 1)
}

let flaw = choice("--flaw", Flaw.self)
if words.contains("--help") { fail(usage, status: 0) }
if let text = ProcessInfo.processInfo.environment["ZEGEL_SIM_SEED"] {
    guard let seed = UInt64(text) else { fail("ZEGEL_SIM_SEED: a number", status: 64) }
    replay(seed, flaw)
}
let seed = number("--seed", default: UInt64.random(in: 0..<UInt64.max))
if words.contains("--flaws") { findFlaws(seed, within: number("--within", default: 30_000)) }
run(number("--histories", default: 100_000), seed, flaw)
