// Large content comes in before its message: whole or not at all, and nothing of an orphan stays.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct UploadTests {
    private func upload(_ message: MessageRow, _ first: Int32, _ count: Int) -> IntakeBatch {
        var batch = IntakeBatch()
        batch.uploads = [
            UploadRow(
                messageID: message.id, tenant: message.tenant, firstFrame: first,
                frames: (0..<count).map { [UInt8(first) + UInt8($0)] })
        ]
        return batch
    }

    private func large(frames: Int32) -> MessageRow {
        let plain = Mail.make()
        return MessageRow(
            id: plain.id, tenant: plain.tenant, acceptedAt: plain.acceptedAt, ruleset: plain.ruleset, size: 5,
            keyedDigest: [1], contentKey: plain.contentKey, metadataKey: plain.metadataKey,
            sealedEnvelope: [1],
            frames: [], frameCount: frames, deliveries: plain.deliveries, recipients: plain.recipients,
            replayTag: nil)
    }

    @Test("Frames first, the message last: it is refused unless all frames are there")
    func wholeness() async throws {
        let shard = try await Shard.make()
        let message = large(frames: 5)
        guard case .durable = await shard.intake.commit(upload(message, 0, 2)),
            case .durable = await shard.intake.commit(upload(message, 2, 2))
        else { throw LabError("no upload") }
        var end = IntakeBatch()
        end.messages = [message]
        guard case .atFault(let error) = await shard.intake.commit(end) else {
            throw LabError("taken without its end")
        }
        #expect(error.sqlState == "ZG001")
        guard case .durable = await shard.intake.commit(upload(message, 4, 1)),
            case .durable = await shard.intake.commit(end)
        else { throw LabError("not taken") }
        #expect(try await shard.work.content(of: [message.id]) == [message.id: [[0], [1], [2], [3], [4]]])
        #expect(try await shard.work.frames(of: message.id, from: 1, count: 2) == [[1], [2]])
        #expect(try await shard.number("SELECT count(*) FROM ledger.upload") == 0)
        // Its client breaks off now, or the sweeper comes by: the message has its frames still.
        try await shard.intake.abandonUpload(message.id)
        #expect(try await Maintenance(pool: shard.owner).run(uploadIdle: .zero).uploadsSwept == 0)
        #expect(try await shard.number("SELECT count(*) FROM ledger.content") == 5)
        await shard.close()
    }

    @Test("An upload from before a takeover is refused: some of its frames may be lost")
    func takeover() async throws {
        let shard = try await Shard.make()
        let message = large(frames: 2)
        guard case .durable = await shard.intake.commit(upload(message, 0, 2)) else {
            throw LabError("no upload")
        }
        try await shard.execute("UPDATE ledger.upload SET incarnation = gen_random_uuid()")
        var end = IntakeBatch()
        end.messages = [message]
        guard case .atFault(let error) = await shard.intake.commit(end) else { throw LabError("taken") }
        #expect(error.sqlState == "ZG001")
        await shard.close()
    }

    @Test("What a client left goes at once when the edge knows, with the sweeper when it does not")
    func orphans() async throws {
        let shard = try await Shard.make()
        let (known, unknown) = (large(frames: 9), large(frames: 9))
        for message in [known, unknown] {
            guard case .durable = await shard.intake.commit(upload(message, 0, 3)) else {
                throw LabError("no upload")
            }
        }
        try await shard.intake.abandonUpload(known.id)
        #expect(try await shard.number("SELECT count(*) FROM ledger.content") == 3)
        let maintenance = Maintenance(pool: shard.owner)
        #expect(try await maintenance.run(uploadIdle: .seconds(3600)).uploadsSwept == 0)
        #expect(try await maintenance.run(uploadIdle: .zero).uploadsSwept == 1)
        #expect(try await shard.number("SELECT count(*) FROM ledger.content") == 0)
        await shard.close()
    }
}
