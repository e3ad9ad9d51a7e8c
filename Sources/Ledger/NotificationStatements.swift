// A delivery status notification is a message like any other, written in the transaction that ends what it reports on.

import Foundation
import Postgres

enum NotificationStatements {
    static func insert(_ notification: NotificationRow) -> [PostgresStatement] {
        let message = notification.message
        var statements = notification.batchKeys.map { key in
            PostgresStatement(
                """
                INSERT INTO ledger.batch_key (id, tenant, purpose, epoch, created_at, wrapped)
                VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
                """,
                [
                    .uuid(key.id), .text(key.tenant), .text(key.purpose), .int4(key.epoch),
                    .timestamp(key.createdAt),
                    .bytes(key.wrapped),
                ])
        }
        statements.append(
            PostgresStatement(
                """
                INSERT INTO ledger.message (id, tenant, accepted_at, ruleset, size, frames, recipients, deliveries,
                    open_deliveries, keyed_digest, batch_key_id, batch_key_index, wrapped_message_key, metadata_key_id,
                    metadata_key_index, wrapped_metadata_key, sealed_envelope, reports_on)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                """,
                [
                    .uuid(message.id), .text(message.tenant), .timestamp(message.acceptedAt),
                    .text(message.ruleset),
                    .int8(message.size), .int4(message.frameCount), .int4(Int32(message.recipients.count)),
                    .int4(Int32(message.deliveries.count)), .bytes(message.keyedDigest),
                    .uuid(message.contentKey.batchKeyID), .int4(message.contentKey.index),
                    .bytes(message.contentKey.wrapped), .uuid(message.metadataKey.batchKeyID),
                    .int4(message.metadataKey.index), .bytes(message.metadataKey.wrapped),
                    .bytes(message.sealedEnvelope), message.reportsOn.map { .uuid($0) } ?? .null,
                ]))
        for (number, frame) in message.frames.enumerated() {
            for part in ContentPart.cut(frame, number: Int32(number)) {
                statements.append(
                    PostgresStatement(
                        "INSERT INTO ledger.content (message_id, frame_no, part, sealed) VALUES ($1, $2, $3, $4)",
                        [
                            .uuid(message.id), .int4(part.frame), .int4(part.number),
                            .bytes(Array(part.bytes)),
                        ]))
            }
        }
        for recipient in message.recipients {
            statements.append(
                PostgresStatement(
                    """
                    INSERT INTO ledger.recipient (message_id, rcpt_no, delivery_no, sealed_address) VALUES ($1, $2, $3, $4)
                    """,
                    [
                        .uuid(message.id), .int4(recipient.number), .int4(recipient.delivery),
                        .bytes(recipient.sealedAddress),
                    ]))
        }
        for delivery in message.deliveries {
            statements.append(
                PostgresStatement(
                    "INSERT INTO ledger.delivery (message_id, no, tenant, lane, due) VALUES ($1, $2, $3, $4, $5)",
                    [
                        .uuid(message.id), .int4(delivery.number), .text(message.tenant),
                        .text(delivery.lane),
                        .timestamp(message.acceptedAt),
                    ]))
        }
        return statements
    }
}
