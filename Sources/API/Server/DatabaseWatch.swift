// Whether the databases answer and hold a schema that this executable knows: the condition `database`.

import Ledger
import Logging
import Metrics
import Observability
import Postgres
import ServiceLifecycle

/// Probes each database until shutdown. A database that is away is waited for; a schema that is not known ends the node.
struct DatabaseWatch: Service {
    let pools: [(name: String, pool: PostgresPool)]
    let ledgers: [EventLedger]
    /// Closed in the end, and not probed.
    var others: [PostgresPool] = []
    let readiness: Readiness
    let logger: Logger

    private static let pause = Duration.seconds(2)

    func run() async throws {
        do {
            try await cancelWhenGracefulShutdown { try await watch() }
        } catch is CancellationError {
            // Graceful shutdown; a cancelled task must close the pools all the same.
        }
        for pool in pools.map(\.pool) + others { await pool.close() }
    }

    private func watch() async throws {
        var verified: Set<String> = []
        var wasUp = true
        while true {
            var failure: String?
            for (name, pool) in pools {
                do {
                    try await probe(pool, verifySchema: !verified.contains(name))
                    verified.insert(name)
                } catch let error as SchemaError {
                    throw error
                } catch {
                    try Task.checkCancellation()
                    failure = "\(name): \(error)"
                }
            }
            if let failure {
                readiness.fail("database", failure)
                if wasUp { logger.warning("database does not answer", metadata: ["reason": "\(failure)"]) }
            } else {
                readiness.hold("database")
                if !wasUp { logger.info("database answers") }
                await measureLag()
            }
            wasUp = failure == nil
            Gauge(label: "zegel_api_database_up").record(wasUp ? 1 : 0)
            try await Task.sleep(for: Self.pause)
        }
    }

    private func measureLag() async {
        for ledger in ledgers {
            guard let lag = try? await ledger.lag() else { continue }
            Gauge(label: "zegel_api_feed_lag_seconds", dimensions: [("shard", ledger.shard)]).record(lag)
        }
    }

    private func probe(_ pool: PostgresPool, verifySchema: Bool) async throws {
        try await pool.withConnection { connection in
            if verifySchema {
                try await Migrator().verify(connection)
            } else {
                try await connection.perform(deadline: .seconds(5)) { try LedgerDatabase.probe($0) }
            }
        }
    }
}
