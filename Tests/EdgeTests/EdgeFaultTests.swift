import Foundation
import Lab
import Postgres
import Synchronization
import Testing

@testable import Edge

/// An edge whose database goes away and comes back.
@Suite("Edge under faults", .serialized) struct EdgeFaultTests {
    @Test("Database away: content is refused with 4xx, the node is not ready, and goes on when it is back")
    func databaseAway() async throws {
        let fixture = try await EdgeFixture.make(ownServer: true)
        defer { fixture.remove() }
        let edge = try await fixture.start(["edge.settle=2s"])
        let client = try await edge.client()
        _ = try queuedID(try await client.mail(EdgeTests.lines(1000, seed: 1)))
        try await fixture.postgres.stop()
        #expect(try await client.mail(EdgeTests.lines(1000, seed: 2)).hasPrefix("451 4.3.0"))
        try await eventually("it is not ready") { !edge.readiness.isReady }
        try await fixture.postgres.restart()
        try await eventually("it is ready again", within: .seconds(30)) { edge.readiness.isReady }
        try await eventually("it takes mail again", within: .seconds(30)) {
            try await client.mail(EdgeTests.lines(1000, seed: 3)).hasPrefix("250")
        }
        try await edge.stop()
    }

    @Test(
        "Law 9: a commit that hangs is given up when edge.settle is over: 451, and what comes later is taken")
    func hangingCommit() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start(["edge.settle=2s"])
        let client = try await edge.client()
        let owner = try await fixture.connection()
        try await owner.perform { session in
            _ = try session.execute("BEGIN; LOCK TABLE ledger.message IN ACCESS EXCLUSIVE MODE")
        }
        #expect(try await client.mail(EdgeTests.lines(1000, seed: 1)).hasPrefix("451 4.3.0"))
        try await owner.perform { session in _ = try session.execute("ROLLBACK") }
        _ = try queuedID(try await client.mail(EdgeTests.lines(1000, seed: 2)))
        #expect(try await fixture.count("SELECT count(*) FROM ledger.message") == 1)
        await owner.close()
        try await edge.stop()
    }

    @Test("Law 1: PostgreSQL is killed under load: what got 250 is there, and repeats make no double")
    func killed() async throws {
        let fixture = try await EdgeFixture.make(ownServer: true)
        defer { fixture.remove() }
        let edge = try await fixture.start(["edge.settle=20s"])
        let tally = Tally()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for sender in 0..<8 {
                group.addTask {
                    var client = try await edge.client()
                    for number in 0..<40 {
                        let seed = sender * 1000 + number
                        let content = EdgeTests.lines(2000, seed: UInt64(seed))
                        // A client repeats until it hears 250, like any queue.
                        for _ in 0..<50 {
                            if let reply = try? await client.mail(content), let id = try? queuedID(reply) {
                                tally.add(seed, id)
                                break
                            }
                            try? await client.close()
                            while true {
                                if let next = try? await edge.client() {
                                    client = next
                                    break
                                }
                                try await Task.sleep(for: .milliseconds(50))
                            }
                        }
                    }
                }
            }
            group.addTask {
                for _ in 0..<4 {
                    let before = tally.ids.count
                    try await eventually("mail flows", within: .seconds(60)) {
                        tally.ids.count > before + 15 || tally.ids.count == 320
                    }
                    try await fixture.postgres.killImmediate()
                    try await fixture.postgres.restart()
                }
            }
            try await group.waitForAll()
        }
        let ids = tally.ids
        #expect(ids.count == 320)
        let stored = try await fixture.admin.withConnection { connection in
            try await connection.perform { session in
                Set(
                    try session.query("SELECT id FROM ledger.message WHERE withdrawn_at IS NULL").map {
                        try $0.uuid(0)
                    })
            }
        }
        #expect(Set(ids.values).isSubset(of: stored), "nothing that got 250 is lost")
        #expect(stored.count == 320, "no double")
        try await edge.stop()
    }
}

/// Which messages got 250, and with which id.
private final class Tally: Sendable {
    private let state = Mutex<[Int: UUID]>([:])

    var ids: [Int: UUID] { state.withLock { $0 } }

    func add(_ seed: Int, _ id: UUID) { state.withLock { $0[seed] = id } }
}
