// How the parts of a worker on one shard are put together; the only place that knows all of them.

import Ledger
import Logging
import NIOCore
import Policy
import Postgres
import Sealing
import Settings
import SmartTLS
import TLS

/// What a worker on one shard is made from.
struct ShardAssembly: Sendable {
    /// For leases, claims, dots and completions: nothing that takes long goes over its connections.
    var ledger: WorkLedger
    /// For reading content and keys.
    var reading: WorkLedger
    /// Where news of work comes from.
    var listening: LeaderRoute
    var name: String
    var region: String
    var worker: WorkerSettings
    var delivery: DeliverySettings
    var nta: NTASettings
    var rulesets: RulesetBook
    var group: any EventLoopGroup
    var tls: TLSContext
    var router: Router
    var control: ControlWatch
    var sealer: SealerBox
    var keys: BatchKeyOpener
    var scans: ScanDesk?
    /// The other shards of the ledger.
    var replays: [ReplayDesk] = []
    var conditions: ShardConditions
    var logger: Logger
    var timeouts = SessionTimeouts()
    /// How long one attempt begins connections.
    var patience = DeliveryAttempt.longestWay
}

extension ShardWorker {
    /// Puts the parts together; nothing runs yet.
    init(_ parts: ShardAssembly) {
        let ledger = parts.ledger
        let logger = parts.logger
        let metrics = WorkerMetrics()
        let board = LaneBoard(perDestination: parts.worker.perDestination)
        let load = WorkLoad(
            ClaimPlanner.Limits(prefetch: parts.worker.prefetch, perDestination: parts.worker.perDestination))
        let held = HeldClaims()
        let lease = LeaseKeeper(
            ledger: ledger, name: parts.name, region: parts.region, lease: parts.worker.lease, logger: logger,
            onBegin: { load.bell.set() },
            onLapse: { lapsed in
                let abandoned = board.abandon(lapsed)
                metrics.abandoned.increment(by: abandoned.count)
                held.letGo(abandoned.map(\.claim.reference))
                load.dropped(abandoned.map(\.claim.lane))
            })
        let dots = DotRegistrar(ledger: ledger, lease: lease, logger: logger)
        let writer = CompletionWriter(
            ledger: ledger, sealer: parts.sealer, dots: dots, held: held, logger: logger
        ) { load.bell.set() }
        var timeouts = parts.timeouts
        timeouts.finalDot = parts.delivery.finalDotTimeout
        runner = LaneRunner(
            ledger: ledger, board: board, load: load, lease: lease, dots: dots, writer: writer, held: held,
            lapsed: LapsedClaims(), contents: ContentReader(ledger: parts.reading),
            scribe: Scribe(reportingHost: parts.delivery.hostName, sealer: parts.sealer),
            router: parts.router,
            opener: SessionOpener(
                examiner: HostExaminer(
                    group: parts.group, tls: parts.tls, heloName: parts.delivery.hostName,
                    sourceAddress: parts.delivery.sourceAddress, port: parts.delivery.port,
                    eea: EEANetworks(parts.nta), timeouts: timeouts), scans: parts.scans),
            mark: parts.nta.header.map(NTAMark.init),
            rulesets: parts.rulesets, control: parts.control,
            schedule: RetrySchedule(
                waits: parts.delivery.retry, expire: parts.delivery.expire,
                delayReport: parts.delivery.delayReport),
            inDoubt: parts.delivery.inDoubt, patience: parts.patience, metrics: metrics, logger: logger)
        opener = MessageOpener(ledger: parts.reading, keys: parts.keys, logger: logger)
        replays = ReplayCheck(ledger: parts.reading, desks: parts.replays)
        concurrency = parts.worker.concurrency
        finalDotTimeout = parts.delivery.finalDotTimeout
        notifications = parts.listening
        isKnown = parts.conditions
    }
}
