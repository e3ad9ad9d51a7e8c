// What a worker counts. Labels are kinds and reasons, never names of persons or domains.

import Ledger
import Metrics
import Policy
import SmartTLS

/// The worker's metrics.
struct WorkerMetrics: Sendable {
    /// Deliveries claimed.
    let claimed = Counter(label: "zegel_worker_claimed")
    /// Claims asked for.
    let claims = Counter(label: "zegel_worker_claims")
    /// Claims given back unbegun.
    let released = Counter(label: "zegel_worker_released")
    /// Claims given up with a lapsed lease.
    let abandoned = Counter(label: "zegel_worker_abandoned")
    /// Claims whose delivery a late result of an earlier owner had ended before they were begun.
    let superseded = Counter(label: "zegel_worker_superseded")
    /// Something an operator must look at: held deliveries.
    let alerts = Counter(label: "zegel_worker_alerts")
    /// 1 while the key service does not answer and claims pause.
    let keysAway = Gauge(label: "zegel_worker_key_service_away")
    /// Claimed and not begun.
    let queued = Gauge(label: "zegel_worker_queued")
    /// Under way.
    let active = Gauge(label: "zegel_worker_active")
    /// Results that wait for their commit.
    let uncommitted = Gauge(label: "zegel_worker_uncommitted")
    /// Final dots of other workers that were in doubt.
    let inDoubt = Counter(label: "zegel_worker_reclaimed_in_doubt")
    /// Claims of other workers that were freed.
    let reclaimed = Counter(label: "zegel_worker_reclaimed")
    /// Deliveries marked since the same bytes may have gone from another shard.
    let markedReplays = Counter(label: "zegel_worker_replays_marked")
    /// How a shard's leader archives its WAL.
    func archive(_ standing: ArchiveStanding, of shard: String) {
        if let age = standing.age {
            Gauge(label: "zegel_ledger_archive_age_seconds", dimensions: [("shard", shard)]).record(age)
        }
        Gauge(label: "zegel_ledger_archive_failing", dimensions: [("shard", shard)])
            .record(standing.isFailing ? 1 : 0)
    }

    private let delivered = Counter(label: "zegel_worker_recipients", dimensions: [("outcome", "delivered")])

    /// One recipient's conclusion.
    func count(_ kind: EventKind, _ reason: ReasonCode) {
        switch kind {
        case .delivered: delivered.increment()
        case .assessed: break
        case .held:
            Counter(label: "zegel_worker_held", dimensions: [("reason", reason.rawValue)]).increment()
        default:
            Counter(
                label: "zegel_worker_recipients",
                dimensions: [("outcome", kind.rawValue), ("reason", reason.rawValue)]
            ).increment()
        }
    }
}

/// What is counted of MTA-STS, over all shards.
struct PolicyMetrics: Sendable {
    private let fetched = Counter(label: "zegel_worker_policy_fetches", dimensions: [("result", "fetched")])
    private let gaveUp = Counter(label: "zegel_worker_policy_fetches", dimensions: [("result", "gave_up")])
    private let refreshShed = Counter(label: "zegel_worker_policy_refreshes_shed")
    private let storeFailed = Counter(label: "zegel_worker_policy_store_failures")

    /// One occurrence.
    func count(_ occurrence: MTASTSOccurrence) {
        switch occurrence {
        case .fetched: fetched.increment()
        case .failed(let reason):
            Counter(label: "zegel_worker_policy_fetches", dimensions: [("result", reason.rawValue)])
                .increment()
        case .gaveUp: gaveUp.increment()
        case .refreshShed: refreshShed.increment()
        case .storeFailed: storeFailed.increment()
        }
    }
}

/// What is counted of scans, over all shards.
struct ScanMetrics: Sendable {
    private let hits = Counter(label: "zegel_worker_scan_lookups", dimensions: [("result", "hit")])
    private let misses = Counter(label: "zegel_worker_scan_lookups", dimensions: [("result", "miss")])
    private let inVain = Counter(label: "zegel_worker_scans", dimensions: [("result", "in_vain")])
    private let leftToOthers = Counter(label: "zegel_worker_scans_left_to_others")
    private let leasesLost = Counter(label: "zegel_worker_scan_leases_lost")
    private let storeFailed = Counter(label: "zegel_worker_scan_store_failures")

    /// One occurrence.
    func count(_ occurrence: HostScanOccurrence) {
        switch occurrence {
        case .hit: hits.increment()
        case .miss: misses.increment()
        case .scanned(let isComplete):
            Counter(
                label: "zegel_worker_scans",
                dimensions: [("result", isComplete ? "complete" : "incomplete")]
            ).increment()
        case .scannedInVain: inVain.increment()
        case .invalidated(let change):
            Counter(label: "zegel_worker_scans_invalidated", dimensions: [("change", change.rawValue)])
                .increment()
        case .leftToOthers: leftToOthers.increment()
        case .leaseLost: leasesLost.increment()
        case .storeFailed: storeFailed.increment()
        }
    }
}
