// The text and the rows of one group commit.

import Foundation
import Postgres

/// Makes a commit wait for its quorum even if it changes no row.
enum DurableMark {
    /// An xid is not enough: a transaction that wrote nothing to the log does not wait (RecordTransactionCommit). This writes.
    static let statement = "SELECT pg_logical_emit_message(true, 'zegel', '')"
}

/// Whether a commit waits for anybody: without a name it waits for nobody, and no warning says so. Names that are emptied while it
/// waits end the wait, without a warning too. So they are read in the transaction and again when it is over, by a command of its own:
/// a server takes up new settings between commands.
enum SynchronousNames {
    static let statement = "SELECT current_setting('synchronous_standby_names')"
    /// Why a commit is not durable.
    static let none = "synchronous_standby_names is empty"

    static func areThere(_ session: PostgresSession) throws -> Bool {
        try !(session.query(statement).first?.text(0) ?? "").isEmpty
    }
}

enum IntakeScript {

    /// - Parameter marker: writes something even when every row is there already.
    static func steps(for batch: IntakeBatch, marker: Bool = false) -> [PostgresScriptStep] {
        var steps: [PostgresScriptStep] = [.sql("BEGIN")]
        if marker { steps.append(.sql(DurableMark.statement)) }
        if !batch.acknowledgedTags.isEmpty {
            steps.append(.sql("SELECT ledger.acknowledge_tags(\(literal(batch.acknowledgedTags)))"))
        }
        if !batch.batchKeys.isEmpty { steps.append(batchKeys(batch.batchKeys)) }
        let finished = batch.messages.filter(\.isUploaded)
        if !finished.isEmpty {
            let ids = literal(finished.map(\.id))
            let counts = literal(finished.map(\.frameCount))
            steps.append(.sql("SELECT ledger.finish_uploads(\(ids), \(counts))"))
        }
        if !batch.uploads.isEmpty { steps.append(touch(batch.uploads)) }
        if let content = content(batch) { steps.append(content) }
        if !batch.messages.isEmpty {
            steps.append(messages(batch.messages))
            steps.append(recipients(batch.messages))
            steps.append(deliveries(batch.messages))
        }
        if let events = events(batch) { steps.append(events) }
        if let tags = tags(batch.messages) { steps.append(tags) }
        steps.append(.sql(SynchronousNames.statement))
        steps.append(.sql("COMMIT"))
        return steps
    }

    private static func batchKeys(_ keys: [BatchKeyRow]) -> PostgresScriptStep {
        var rows = PostgresCopyRows(columns: 6, reserve: keys.count * 2048)
        for key in keys {
            rows.beginRow()
            rows.append(uuid: key.id)
            rows.append(text: key.tenant)
            rows.append(text: key.purpose)
            rows.append(int4: key.epoch)
            rows.append(timestamp: key.createdAt)
            rows.append(bytes: key.wrapped)
        }
        return .copy(
            table: "ledger.batch_key",
            columns: ["id", "tenant", "purpose", "epoch", "created_at", "wrapped"], rows)
    }

    private static func touch(_ uploads: [UploadRow]) -> PostgresScriptStep {
        // One connection may have put several runs of frames into this batch: the last one tells the number.
        var counts: [UUID: Int32] = [:]
        var tenants: [UUID: String] = [:]
        for upload in uploads {
            counts[upload.messageID] = max(
                counts[upload.messageID] ?? 0, upload.firstFrame + Int32(upload.frames.count))
            tenants[upload.messageID] = upload.tenant
        }
        let ids = counts.keys.sorted()
        let names = ids.map { quoted(tenants[$0] ?? "") }.joined(separator: ",")
        return .sql(
            "SELECT ledger.touch_uploads(\(literal(ids)), ARRAY[\(names)]::text[], \(literal(ids.map { counts[$0] ?? 0 })))"
        )
    }

    private static func content(_ batch: IntakeBatch) -> PostgresScriptStep? {
        var size = 0
        for message in batch.messages { for frame in message.frames { size += frame.count + 128 } }
        for upload in batch.uploads { for frame in upload.frames { size += frame.count + 1024 } }
        if size == 0 { return nil }
        var rows = PostgresCopyRows(columns: 4, reserve: size)
        // Those that fill a page first: what is smaller then shares pages.
        for isWhole in [true, false] {
            func add(_ id: UUID, _ first: Int32, _ frames: [[UInt8]]) {
                for (index, frame) in frames.enumerated() {
                    for part in ContentPart.cut(frame, number: first + Int32(index))
                    where (part.bytes.count == ContentPart.size) == isWhole {
                        rows.beginRow()
                        rows.append(uuid: id)
                        rows.append(int4: part.frame)
                        rows.append(int4: part.number)
                        rows.append(bytes: part.bytes)
                    }
                }
            }
            for message in batch.messages { add(message.id, 0, message.frames) }
            for upload in batch.uploads { add(upload.messageID, upload.firstFrame, upload.frames) }
        }
        return .copy(table: "ledger.content", columns: ["message_id", "frame_no", "part", "sealed"], rows)
    }

    static let messageColumns = [
        "id", "tenant", "accepted_at", "ruleset", "size", "frames", "recipients", "deliveries",
        "open_deliveries",
        "keyed_digest", "batch_key_id", "batch_key_index", "wrapped_message_key", "metadata_key_id",
        "metadata_key_index", "wrapped_metadata_key", "sealed_envelope",
    ]

    private static func messages(_ messages: [MessageRow]) -> PostgresScriptStep {
        var rows = PostgresCopyRows(columns: messageColumns.count, reserve: messages.count * 768)
        for message in messages {
            rows.beginRow()
            rows.append(uuid: message.id)
            rows.append(text: message.tenant)
            rows.append(timestamp: message.acceptedAt)
            rows.append(text: message.ruleset)
            rows.append(int8: message.size)
            rows.append(int4: message.frameCount)
            rows.append(int4: Int32(message.recipients.count))
            rows.append(int4: Int32(message.deliveries.count))
            rows.append(int4: Int32(message.deliveries.count))
            rows.append(bytes: message.keyedDigest)
            rows.append(uuid: message.contentKey.batchKeyID)
            rows.append(int4: message.contentKey.index)
            rows.append(bytes: message.contentKey.wrapped)
            rows.append(uuid: message.metadataKey.batchKeyID)
            rows.append(int4: message.metadataKey.index)
            rows.append(bytes: message.metadataKey.wrapped)
            rows.append(bytes: message.sealedEnvelope)
        }
        return .copy(table: "ledger.message", columns: messageColumns, rows)
    }

    private static func recipients(_ messages: [MessageRow]) -> PostgresScriptStep {
        var rows = PostgresCopyRows(columns: 4, reserve: messages.count * 256)
        for message in messages {
            for recipient in message.recipients {
                rows.beginRow()
                rows.append(uuid: message.id)
                rows.append(int4: recipient.number)
                rows.append(int4: recipient.delivery)
                rows.append(bytes: recipient.sealedAddress)
            }
        }
        return .copy(
            table: "ledger.recipient", columns: ["message_id", "rcpt_no", "delivery_no", "sealed_address"],
            rows)
    }

    private static func deliveries(_ messages: [MessageRow]) -> PostgresScriptStep {
        var rows = PostgresCopyRows(columns: 6, reserve: messages.count * 128)
        for message in messages {
            for delivery in message.deliveries {
                rows.beginRow()
                rows.append(uuid: message.id)
                rows.append(int4: delivery.number)
                rows.append(text: message.tenant)
                rows.append(text: delivery.lane)
                rows.append(timestamp: message.acceptedAt)
                rows.append(bool: message.isPossibleDuplicate)
            }
        }
        return .copy(
            table: "ledger.delivery",
            columns: ["message_id", "no", "tenant", "lane", "due", "possible_duplicate"], rows)
    }

    private static func events(_ batch: IntakeBatch) -> PostgresScriptStep? {
        if batch.messages.isEmpty && batch.rejections.isEmpty { return nil }
        var rows = PostgresCopyRows(columns: 7, reserve: batch.messages.count * 160)
        for message in batch.messages {
            for recipient in message.recipients {
                rows.beginRow()
                rows.append(uuid: AcceptedEventID.make(message: message.id, recipient: recipient.number))
                rows.append(text: message.tenant)
                rows.append(uuid: message.id)
                rows.append(int4: recipient.number)
                rows.append(text: EventKind.accepted.rawValue)
                rows.append(timestamp: message.acceptedAt)
                rows.appendNull()
            }
        }
        for rejection in batch.rejections {
            rows.beginRow()
            rows.append(uuid: rejection.id)
            rows.append(text: rejection.tenant)
            rows.appendNull()
            rows.appendNull()
            rows.append(text: EventKind.rejected.rawValue)
            rows.append(timestamp: rejection.at)
            rows.append(text: rejection.reasonCode)
        }
        return .copy(
            table: "ledger.event",
            columns: ["id", "tenant", "message_id", "rcpt_no", "kind", "at", "reason_code"], rows)
    }

    private static func tags(_ messages: [MessageRow]) -> PostgresScriptStep? {
        var rows = PostgresCopyRows(columns: 4, reserve: messages.count * 96)
        for message in messages {
            guard let tag = message.replayTag else { continue }
            rows.beginRow()
            rows.append(bytes: tag)
            rows.append(uuid: message.id)
            rows.append(timestamp: message.acceptedAt)
            if let tag = message.previousTag { rows.append(bytes: tag) } else { rows.appendNull() }
        }
        if rows.rowCount == 0 { return nil }
        return .copy(
            table: "ledger.replay", columns: ["tag", "message_id", "accepted_at", "previous_tag"], rows)
    }

    // Literals of ids, numbers and digests only; the single text (a tenant's id) is quoted.

    static func literal(_ ids: [UUID]) -> String {
        "'{\(ids.map(\.uuidString).joined(separator: ","))}'::uuid[]"
    }

    static func literal(_ numbers: [Int32]) -> String {
        "'{\(numbers.map(String.init).joined(separator: ","))}'::int[]"
    }

    static func literal(_ values: [[UInt8]]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = Array("ARRAY[".utf8)
        for (position, value) in values.enumerated() {
            if position > 0 { text.append(UInt8(ascii: ",")) }
            text.append(contentsOf: Array("'\\x".utf8))
            for byte in value {
                text.append(digits[Int(byte >> 4)])
                text.append(digits[Int(byte & 15)])
            }
            text.append(UInt8(ascii: "'"))
        }
        text.append(contentsOf: Array("]::bytea[]".utf8))
        return String(decoding: text, as: UTF8.self)
    }

    static func quoted(_ text: String) -> String {
        "'" + text.replacingOccurrences(of: "'", with: "''") + "'"
    }
}
