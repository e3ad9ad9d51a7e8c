// Reports on recipient domains for callers of the api: few at once, each domain once at a time, and none again within a minute, so
// that nobody makes this node knock on strangers' doors without end (law 9).

import Policy
import SmartTLS

/// Gives out reports on domains.
actor JudgeDesk {
    /// More are asked for at once than this node makes.
    struct Busy: Error {}

    /// Reports that are made at once.
    static let most = 8
    /// How long a report is given out again.
    static let keeps: Duration = .seconds(60)
    /// Reports that are kept.
    private static let mostKept = 1_000

    private struct Question: Hashable {
        let domain: String
        let probes: Bool
    }

    private let judge: DomainJudge
    private let rulesets: [Ruleset]
    private let now: @Sendable () -> ContinuousClock.Instant
    private var kept: [Question: (report: DomainReport, until: ContinuousClock.Instant)] = [:]
    private var underWay: [Question: Task<DomainReport, Never>] = [:]

    /// - rulesets: those that reports are made under.
    init(
        _ judge: DomainJudge, rulesets: [Ruleset],
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.judge = judge
        self.rulesets = rulesets
        self.now = now
    }

    /// The report on a domain in lower-case A-labels, under every ruleset that this node knows.
    ///
    /// - probes: whether hosts are asked for what they accept where no scan that counts is kept.
    func report(on domain: String, probes: Bool) async throws(Busy) -> DomainReport {
        let question = Question(domain: domain, probes: probes)
        if let entry = kept[question], entry.until > now() { return entry.report }
        if let task = underWay[question] { return await task.value }
        guard underWay.count < Self.most else { throw Busy() }
        let (judge, rulesets) = (judge, rulesets)
        let task = Task { await judge.report(on: domain, under: rulesets, probes: probes) }
        underWay[question] = task
        let report = await task.value
        underWay[question] = nil
        let time = now()
        if kept.count >= Self.mostKept { kept = kept.filter { $0.value.until > time } }
        if kept.count < Self.mostKept { kept[question] = (report, time + Self.keeps) }
        return report
    }
}
