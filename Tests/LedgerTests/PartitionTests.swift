// Partitions by day: made ahead, a default one behind, and none dropped while a delivery of its day is open.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct PartitionTests {
    private static let partitions = """
        SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'ledger' AND c.relname ~ '^(message|content|recipient|event)_[0-9]{8}$'
        """

    @Test(
        "Today and a week are there from the start; maintenance makes what is missing, and is harmless twice")
    func ahead() async throws {
        let shard = try await Shard.make()
        #expect(try await shard.number(Self.partitions) == 8 * 4)
        let maintenance = Maintenance(
            pool: PostgresPool(
                configuration: PostgresConfiguration(
                    shard.server.dsn(database: shard.database, user: "zegel_admin")), limit: 1,
                waitLimit: .seconds(30)))
        #expect(try await maintenance.run(daysAhead: 7).partitionsMade == 0)
        #expect(try await maintenance.run(daysAhead: 9).partitionsMade == 2 * 4)
        async let one = maintenance.run(daysAhead: 12)
        async let two = Maintenance(pool: shard.owner).run(daysAhead: 12)
        #expect(try await one.partitionsMade + two.partitionsMade == 3 * 4)
        await shard.close()
    }

    @Test(
        "A row goes to the partition of its day; one of a day without a partition to the default, and stays there"
    )
    func routing() async throws {
        let shard = try await Shard.make()
        let far = Date() + 100 * 86_400
        let (today, later) = (Mail.make(), Mail.make(at: far))
        try await shard.accept([today, later])
        let names = try await shard.rows(
            "SELECT id, tableoid::regclass::text FROM ledger.message")
        let byID = try Dictionary(uniqueKeysWithValues: names.map { (try $0.uuid(0), try $0.text(1)) })
        #expect(byID[later.id]?.hasSuffix("message_default") == true)
        let day = try await shard.rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")[0].text(0)
        #expect(byID[today.id]?.hasSuffix("message_\(day)") == true)
        // Its day comes near: a partition cannot be made any more, and nothing fails for it.
        let made = try await shard.rows(
            "SELECT ledger.ensure_partitions($1::timestamptz::date, 1)", [.timestamp(far)])
        #expect(try made[0].int4(0) == 0)
        #expect(try await shard.intake.known([later.id]) == [later.id])
        let worker = try await shard.newWorker()
        #expect(try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9)).count == 2)
        await shard.close()
    }

    @Test("Retention drops old days, but never one with an open delivery")
    func retention() async throws {
        let shard = try await Shard.make()
        _ = try await shard.rows("SELECT ledger.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 100, 3)")
        let old = [100.0, 99, 98].map { Mail.make(at: Date() - $0 * 86_400) }
        try await shard.accept(old)
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9))
        // The middle one stays open, in each state that a delivery can be in.
        _ = try await shard.work.complete(
            claims.filter { $0.reference.message != old[1].id }.map { Mail.completion($0) })
        let maintenance = Maintenance(pool: shard.owner)
        #expect(try await maintenance.run(retentionDays: 90).daysDropped == 2)
        for state in ["ready", "waiting", "claimed", "held"] {
            try await shard.execute("UPDATE ledger.delivery SET state = '\(state)'")
            #expect(try await maintenance.run(retentionDays: 90).daysDropped == 0)
        }
        #expect(try await shard.intake.known(old.map(\.id)) == [old[1].id])
        #expect(try await shard.number(Self.partitions) == 9 * 4)
        try await shard.execute("DELETE FROM ledger.delivery")
        #expect(try await maintenance.run(retentionDays: 90).daysDropped == 1)
        #expect(try await shard.number(Self.partitions) == 8 * 4)
        await shard.close()
    }
}
