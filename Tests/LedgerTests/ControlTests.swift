// The control schema when its leader is away: readable with an age, edited by the quorum or not at all.

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger

@Suite("The control schema and its leader", .serialized) struct ControlTests {
    private func administration(_ shard: Shard, demandsQuorum: Bool = false) -> ControlAdministration {
        ControlAdministration(
            pool: PostgresPool(
                configuration: PostgresConfiguration(shard.server.dsn(database: shard.database)), limit: 1,
                waitLimit: .seconds(1)),
            demandsQuorum: demandsQuorum, patience: .seconds(3))
    }

    @Test("Its age is that of the leader's last heartbeat; a beat is written at most every five seconds")
    func age() async throws {
        let shard = try await Shard.make()
        let reading = ControlLedger(pool: shard.api)
        try await shard.execute(
            "UPDATE control.version SET heartbeat_at = clock_timestamp() - interval '1 hour'")
        let old = try await reading.version()
        #expect(old.age >= 3600 && old.age < 3700)
        let leader = ControlLedger(pool: shard.edge)
        try await leader.beat()
        let young = try await reading.version()
        #expect(young.age < 60 && young.number == old.number)
        let written = "SELECT xmin::text::bigint FROM control.version"
        let before = try await shard.number(written)
        try await shard.execute(
            "UPDATE control.version SET heartbeat_at = clock_timestamp() + interval '1 minute'")
        let ahead = try await shard.number(written)
        for _ in 0..<3 { try await leader.beat() }
        #expect(try await shard.number(written) == ahead && ahead != before)
        // A member whose clock is behind its leader's sees no negative age.
        #expect(try await reading.version().age == 0)
        await shard.close()
    }

    @Test("With the leader away an edit ends in time with what to do, nothing changed; given again it holds")
    func leaderAway() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let edits = administration(shard)
        let edit = TenantEdit(id: "acme", name: "Acme", domains: ["acme.test"])
        try await server.stop()
        let began = ContinuousClock.now
        let refusal = await #expect(throws: ControlEditRefused.self) { try await edits.apply(edit) }
        #expect(ContinuousClock.now - began < .seconds(15))
        #expect(refusal?.mayHold == false)
        #expect(refusal?.description.contains("Nothing was changed") == true)
        #expect(refusal?.description.contains("zegel shard status") == true)
        try await server.restart()
        #expect(try await shard.number("SELECT count(*) FROM control.tenant WHERE id = 'acme'") == 0)
        try await edits.apply(edit)
        #expect(
            try await shard.number("SELECT count(*) FROM control.sender_domain WHERE tenant = 'acme'") == 1)
        for pool in [shard.owner, shard.edge, shard.worker, shard.api] { await pool.close() }
        try await server.killImmediate()
    }

    @Test(
        "Without the quorum no edit passes for kept: not the first try, and not a repeat that finds its row there already"
    )
    func withoutQuorum() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let edits = administration(shard)
        try await server.set("synchronous_standby_names", to: "nobody")
        for _ in 0..<2 {
            let refusal = await #expect(throws: ControlEditRefused.self) {
                try await edits.putKeySet(version: 7, signed: [1])
            }
            #expect(refusal?.mayHold == true)
        }
        // Names that are emptied do not make it kept either, where regions are to have it.
        try await server.set("synchronous_standby_names", to: nil)
        await #expect(throws: ControlEditRefused.self) {
            try await administration(shard, demandsQuorum: true).putKeySet(version: 7, signed: [1])
        }
        try await edits.putKeySet(version: 7, signed: [1])
        for pool in [shard.owner, shard.edge, shard.worker, shard.api] { await pool.close() }
        try await server.killImmediate()
    }

    @Test("An edit of a tenant is whole or not at all; what is not named stays")
    func whole() async throws {
        let shard = try await Shard.make()
        let edits = administration(shard)
        try await edits.apply(
            TenantEdit(id: "one", name: "One", defaultRuleset: "nta7516", domains: ["one.test"]))
        for (edit, words) in [
            (TenantEdit(id: "two", domains: ["two.test", "one.test"]), "another tenant's"),
            (TenantEdit(id: "Two!"), "no tenant's id"),
            (TenantEdit(id: "three", mustExist: true), "no tenant"),
        ] {
            let invalid = await #expect(throws: ControlEditInvalid.self) { try await edits.apply(edit) }
            #expect(invalid?.description.contains(words) == true, "\(edit.id)")
        }
        #expect(try await shard.number("SELECT count(*) FROM control.tenant WHERE id <> 'demo'") == 1)
        #expect(
            try await shard.number("SELECT count(*) FROM control.sender_domain WHERE domain = 'two.test'")
                == 0)
        try await edits.apply(TenantEdit(id: "one", isDisabled: true, mustExist: true))
        let row = try await shard.rows(
            "SELECT name, default_ruleset, disabled_at IS NOT NULL FROM control.tenant WHERE id = 'one'")
        #expect(try row[0].text(0) == "One" && row[0].text(1) == "nta7516" && row[0].bool(2))
        try await edits.apply(TenantEdit(id: "one", isDisabled: false))
        #expect(
            try await shard.number("SELECT count(*) FROM control.tenant WHERE disabled_at IS NOT NULL") == 0)
        await shard.close()
    }
}
