// Whether the databases answer and hold a schema that this executable knows: the condition `database`.

import Ledger
import Logging
import Metrics
import Observability
import Postgres
import ServiceLifecycle

/// Probes each database until shutdown. A database that is away is waited for; a schema that is not known ends the node.
struct DatabaseWatch: Service {
    let control: PostgresPool
    /// Past this age of what the control member shows the node is not ready.
    let controlMaximumAge: Duration
    /// The members of each shard: one that answers is enough.
    let shards: [(name: String, members: [PostgresPool])]
    let ledgers: [EventLedger]
    let readiness: Readiness
    let logger: Logger

    private static let pause = Duration.seconds(2)

    func run() async throws {
        do {
            try await cancelWhenGracefulShutdown { try await watch() }
        } catch is CancellationError {
            // Graceful shutdown; a cancelled task must close the pools all the same.
        }
        await control.close()
        for pool in shards.flatMap(\.members) { await pool.close() }
    }

    private func watch() async throws {
        var verified: Set<String> = []
        var wasUp = true
        while true {
            var failure: String?
            for (name, members) in [("control", [control])] + shards.map({ ("shard \($0.name)", $0.members) })
            {
                do {
                    try await probe(members, verifySchema: !verified.contains(name))
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
            }
            await measureControlAge()
            await measureLag()
            wasUp = failure == nil
            Gauge(label: "zegel_api_database_up").record(wasUp ? 1 : 0)
            try await Task.sleep(for: Self.pause)
        }
    }

    /// How old is what this region sees of keys and tenants?
    private func measureControlAge() async {
        guard let age = try? await ControlLedger(pool: control).version().age else { return }
        Gauge(label: "zegel_api_control_age_seconds").record(age)
        if age <= controlMaximumAge / .seconds(1) {
            readiness.hold("control")
        } else {
            readiness.fail(
                "control",
                "keys and tenants are \(Int(age)) s old, more than control.maximum_age: the control shard's leader is not heard of"
            )
        }
    }

    private func measureLag() async {
        for ledger in ledgers {
            guard let lag = try? await ledger.lag() else { continue }
            Gauge(label: "zegel_api_feed_lag_seconds", dimensions: [("shard", ledger.shard)]).record(lag)
        }
    }

    /// Returns when a member answered.
    /// - Throws: `SchemaError` when none has a schema that this executable knows: one that is being made may lack some of it.
    private func probe(_ members: [PostgresPool], verifySchema: Bool) async throws {
        var failures: [any Error] = []
        for pool in members {
            do { return try await probe(pool, verifySchema: verifySchema) } catch { failures.append(error) }
        }
        if failures.allSatisfy({ $0 is SchemaError }), let error = failures.first { throw error }
        throw failures.first { !($0 is SchemaError) } ?? CancellationError()
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
