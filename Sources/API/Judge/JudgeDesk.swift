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

    private let judge: DomainJudge
    private let now: @Sendable () -> ContinuousClock.Instant
    private var kept: [String: (report: DomainReport, until: ContinuousClock.Instant)] = [:]
    private var underWay: [String: Task<DomainReport, Never>] = [:]

    init(
        _ judge: DomainJudge, now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.judge = judge
        self.now = now
    }

    /// The report on a domain in lower-case A-labels, under every built-in ruleset.
    func report(on domain: String) async throws(Busy) -> DomainReport {
        if let entry = kept[domain], entry.until > now() { return entry.report }
        if let task = underWay[domain] { return await task.value }
        guard underWay.count < Self.most else { throw Busy() }
        let judge = judge
        let task = Task { await judge.report(on: domain, under: RulesetBook().all) }
        underWay[domain] = task
        let report = await task.value
        underWay[domain] = nil
        let time = now()
        if kept.count >= Self.mostKept { kept = kept.filter { $0.value.until > time } }
        if kept.count < Self.mostKept { kept[domain] = (report, time + Self.keeps) }
        return report
    }
}
