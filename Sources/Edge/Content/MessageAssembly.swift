// From the octets of one transaction to sealed rows, while they stream in (design §6, §7).
//
// Plaintext is copied once, into one frame; a full frame is hashed and sealed when more follows. Small messages stay in memory,
// sealed; of large ones every few frames are handed out to be committed ahead, and nothing more is taken in until they are.

import Foundation
import Ledger
import NIOCore
import SMTP
import Sealing

/// The message at hand. Lives on one event loop.
final class MessageAssembly {
    /// Sealed frames of which one upload is made; a message of no more than one frame beyond them needs none.
    static let framesHeld = 4
    /// Received headers from which on a message counts as looping (RFC 5321 §6.3).
    static let maximumHops = 100

    /// Why a message cannot be kept.
    enum Refusal: Error {
        /// It has been through too many hosts.
        case looping
        /// It could not be sealed: no usable keys.
        case unsealable(SealingError)
    }

    /// What every transaction of a connection has in common.
    struct Origin {
        var received: ReceivedHeader
        var tenant: String
        var ruleset: String
    }

    let transaction: MailTransaction
    private let origin: Origin
    private let replayKeys: ReplayTagKeys
    private let sealer: Sealer
    private let pool: FrameBufferPool
    private let buffer: FrameBuffer

    private var sealing: Sealing?
    private var hasher = ContentHasher()
    private var size: Int64 = 0
    private var held: [[UInt8]] = []
    private var uploadedFrames: Int32 = 0
    private var subject: String?
    private var isHeaderRead = false

    private struct Sealing: ~Copyable {
        var id: UUID
        var context: SealingContext
        var key: MessageKey
        var wrapped: WrappedMessageKey
        var frames: FrameSealer
    }

    init(
        _ transaction: MailTransaction, origin: Origin, replayKeys: ReplayTagKeys, sealer: Sealer,
        pool: FrameBufferPool
    ) {
        self.transaction = transaction
        self.origin = origin
        self.replayKeys = replayKeys
        self.sealer = sealer
        self.pool = pool
        self.buffer = pool.take()
    }

    deinit { pool.giveBack(buffer) }

    /// The id of frames that were uploaded and that only a message row makes worth keeping.
    var uploadedID: UUID? { uploadedFrames > 0 ? sealing?.id : nil }

    /// Takes content in.
    ///
    /// - Returns: Frames to be committed before more is taken in.
    func append(_ slice: ByteBuffer) throws(Refusal) -> UploadRow? {
        let failure = slice.withUnsafeReadableBytes { bytes -> Refusal? in
            var rest = bytes
            size += Int64(bytes.count)
            while !rest.isEmpty {
                if buffer.isFull {
                    do throws(Refusal) { try sealBuffer(isLast: false) } catch { return error }
                }
                rest = UnsafeRawBufferPointer(rebasing: rest[buffer.append(rest)...])
            }
            return nil
        }
        if let failure { throw failure }
        return held.count >= Self.framesHeld + (uploadedFrames > 0 ? 0 : 1) ? takeUpload() : nil
    }

    /// Seals what is left.
    ///
    /// - Returns: Frames that must be committed before ``finish(hasEightBit:)``, if the message is a large one.
    func seal() throws(Refusal) -> UploadRow? {
        try sealBuffer(isLast: true)
        return uploadedFrames > 0 ? takeUpload() : nil
    }

    /// The rows of the message.
    func finish(hasEightBit: Bool) throws(Refusal) -> MessageRow {
        do throws(SealingError) {
            return try rows(hasEightBit: hasEightBit)
        } catch {
            throw .unsealable(error)
        }
    }

    // MARK: Frames

    private func takeUpload() -> UploadRow? {
        guard let id = sealing?.id, !held.isEmpty else { return nil }
        defer {
            uploadedFrames += Int32(held.count)
            held = []
        }
        return UploadRow(messageID: id, tenant: origin.tenant, firstFrame: uploadedFrames, frames: held)
    }

    private func sealBuffer(isLast: Bool) throws(Refusal) {
        if !isHeaderRead { try readHeader() }
        do throws(SealingError) {
            if sealing == nil { try beginSealing() }
            hasher.update(buffer.bytes)
            if let frame = try sealing?.frames.seal(buffer.bytes, isLast: isLast) { held.append(frame) }
        } catch {
            throw .unsealable(error)
        }
        buffer.clear()
    }

    private func beginSealing() throws(SealingError) {
        let now = Date()
        let id = UUIDv7.make(at: now)
        let context = SealingContext(tenant: origin.tenant, message: id, purpose: .content)
        let (key, wrapped) = try sealer.messageKey(context, now: now)
        let frames = try FrameSealer(key: key, context: context, frameSize: FrameBuffer.capacity)
        sealing = Sealing(id: id, context: context, key: key, wrapped: wrapped, frames: frames)
    }

    /// Reads the header section in the first frame. New Received lines come on top, so a loop shows there whatever follows.
    private func readHeader() throws(Refusal) {
        isHeaderRead = true
        let header = HeaderBlock(buffer.bytes)
        if header.count(of: "Received", in: buffer.bytes) >= Self.maximumHops { throw .looping }
        subject = header.first("Subject", in: buffer.bytes, maximumLength: 998).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    // MARK: Rows

    private func rows(hasEightBit: Bool) throws(SealingError) -> MessageRow {
        guard let id = sealing?.id, let context = sealing?.context, let key = sealing?.key,
            let wrapped = sealing?.wrapped
        else { throw .misuse("a message that was not sealed") }
        let now = Date()
        let hash = hasher.finish()
        let metadata = SealingContext(tenant: origin.tenant, message: id, purpose: .metadata)
        let (metadataKey, wrappedMetadata) = try sealer.messageKey(metadata, now: now)
        var envelope = Envelope(
            reversePath: transaction.reversePath, body: transaction.body, smtpUTF8: transaction.smtpUTF8,
            requireTLS: transaction.requireTLS, envelopeID: transaction.envelopeID,
            returnContent: transaction.returnContent)
        let recipients = transaction.recipients.map { $0.encoded() }
        let canonical = Self.canonical(envelope, recipients)
        if hasEightBit { envelope.body = .eightBitMIME }
        envelope.subject = subject
        envelope.receivedLine = origin.received.encoded(
            messageID: id.lowercasedText, acceptedAt: Int(now.timeIntervalSince1970))
        let (deliveries, rows) = try sealRecipients(recipients, metadataKey, metadata)
        let row = MessageRow(
            id: id, tenant: origin.tenant, acceptedAt: now, ruleset: origin.ruleset, size: size,
            keyedDigest: try KeyedDigest.content(hash, key: key, context: context),
            contentKey: KeyReference(wrapped), metadataKey: KeyReference(wrappedMetadata),
            sealedEnvelope: try SealedField.seal(
                envelope.encoded(), key: metadataKey, context: metadata, field: SealedField.envelope),
            frames: held, frameCount: uploadedFrames + Int32(held.count), deliveries: deliveries,
            recipients: rows,
            replayTag: ReplayTag.make(dailyKey: replayKeys.today, envelope: canonical, content: hash),
            previousTag: replayKeys.yesterday.map {
                ReplayTag.make(dailyKey: $0, envelope: canonical, content: hash)
            })
        held = []
        return row
    }

    private func sealRecipients(
        _ encoded: [[UInt8]], _ key: MessageKey, _ context: SealingContext
    ) throws(SealingError) -> ([DeliveryRow], [RecipientRow]) {
        var deliveries: [DeliveryRow] = []
        var numbers: [String: Int32] = [:]
        var rows: [RecipientRow] = []
        rows.reserveCapacity(encoded.count)
        for (index, recipient) in transaction.recipients.enumerated() {
            let lane = recipient.address.lane
            let delivery: Int32
            if let known = numbers[lane] {
                delivery = known
            } else {
                delivery = Int32(deliveries.count)
                numbers[lane] = delivery
                deliveries.append(DeliveryRow(number: delivery, lane: lane))
            }
            let number = Int32(index)
            rows.append(
                RecipientRow(
                    number: number, delivery: delivery,
                    sealedAddress: try SealedField.seal(
                        encoded[index], key: key, context: context, field: SealedField.address(number))))
        }
        return (deliveries, rows)
    }

    /// The envelope as the client sent it, recipients in their order: what makes a repeat a repeat beside the content.
    private static func canonical(_ envelope: Envelope, _ recipients: [[UInt8]]) -> [UInt8] {
        var bytes = envelope.encoded()
        for recipient in recipients {
            withUnsafeBytes(of: UInt32(recipient.count).bigEndian) { bytes.append(contentsOf: $0) }
            bytes.append(contentsOf: recipient)
        }
        return bytes
    }
}

extension KeyReference {
    init(_ wrapped: WrappedMessageKey) {
        self.init(batchKeyID: wrapped.batchKeyID, index: wrapped.index, wrapped: wrapped.bytes)
    }
}
