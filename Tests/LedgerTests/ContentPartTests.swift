// Frames cut into rows of a page, and put together again.

import Foundation
import Lab
import Migrations
import Postgres
import Testing

@testable import Ledger

@Suite("Parts of frames") struct ContentPartTests {
    private static let sizes = [
        0, 1, ContentPart.size - 1, ContentPart.size, ContentPart.size + 1, 65_623, 200_000,
    ]

    @Test("No part is larger than a page holds, and together they are the frame", arguments: sizes)
    func cuts(_ size: Int) {
        let frame = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let parts = ContentPart.cut(frame, number: 3)
        #expect(parts.allSatisfy { $0.frame == 3 && $0.bytes.count <= ContentPart.size })
        #expect(parts.map(\.number) == (0..<Int32(parts.count)).map { $0 })
        #expect(parts.flatMap(\.bytes) == frame)
        #expect(parts.count == max(1, (size + ContentPart.size - 1) / ContentPart.size))
    }

    @Test("Rows in any order give the frames in theirs, an empty one among them")
    func assembles() {
        let frames = Self.sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) } }
        var rows = frames.enumerated().flatMap { ContentPart.cut($1, number: Int32($0)) }
        for order in 0..<4 {
            if order > 1 { rows.shuffle() } else if order == 1 { rows.reverse() }
            var assembly = ContentAssembly()
            for row in rows { assembly.add(frame: row.frame, part: row.number, Array(row.bytes)) }
            #expect(assembly.frames() == frames)
        }
    }

    @Test("What an edge commits is read whole, lies outside TOAST, and goes whole")
    func committed() async throws {
        let shard = try await Shard.make()
        let frames = Self.sizes.map { size in (0..<size).map { _ in UInt8.random(in: 0...255) } }
        let message = Mail.make(frames: frames)
        try await shard.accept([message, Mail.make()])
        #expect(try await shard.work.content(of: [message.id])[message.id] == frames)
        #expect(try await shard.work.frames(of: message.id, from: 2, count: 3) == Array(frames[2..<5]))
        let toasted = """
            SELECT coalesce(sum(pg_relation_size(c.reltoastrelid)), 0) FROM pg_class c
            WHERE c.relname LIKE 'content%' AND c.relkind = 'r' AND c.reltoastrelid <> 0
            """
        #expect(try await shard.number(toasted) == 0)
        await shard.close()
    }

    @Test("Contents from before the parts are read as they were")
    func fromBefore() async throws {
        let server = try await TemporaryPostgres.shared()
        let database = try await server.createDatabase()
        let connection = try await PostgresConnection.connect(
            PostgresConfiguration(server.dsn(database: database)))
        _ = try await Migrator(MigrationCatalog.all.filter { $0.version < 10 }).migrate(connection)
        let id = Mail.id()
        let frames = [65_623, 300].map { size in (0..<size).map { _ in UInt8.random(in: 0...255) } }
        for (number, frame) in frames.enumerated() {
            _ = try await connection.perform { session in
                try session.query(
                    "INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ($1, $2, $3)",
                    [.uuid(id), .int4(Int32(number)), .bytes(frame)])
            }
        }
        _ = try await Migrator().migrate(connection)
        await connection.close()
        let pool = PostgresPool(
            configuration: PostgresConfiguration(server.dsn(database: database)), limit: 1,
            waitLimit: .seconds(60))
        let work = WorkLedger(shard: "a", pool: pool)
        #expect(try await work.content(of: [id])[id] == frames)
        #expect(try await work.frames(of: id, from: 0, count: 2) == frames)
        await pool.close()
    }
}
