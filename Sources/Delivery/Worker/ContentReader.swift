// Turns sealed frames into what is sent. Small contents are opened whole. Large ones are opened twice: once to verify every
// frame, so that nothing of a damaged message leaves, and once more frame by frame while they are sent.

import Foundation
import Ledger
import Sealing
import Synchronization

/// Why a content cannot be sent.
enum ContentFault: Error, Sendable {
    /// Frames are there that do not authenticate.
    case altered
    /// Frames are not there: lost, or gone with a delivery that ended meanwhile. The claim tells which.
    case missing
}

/// A content that may be sent.
struct OpenedContent: Sendable {
    /// Where the bytes are.
    enum Body: Sendable {
        /// All of them.
        case memory([[UInt8]])
        /// Verified, and read again while they are sent.
        case stream(FrameStream)
    }

    let body: Body
    /// The first bytes, at least the header where it fits: for a notification.
    let head: [UInt8]
}

/// Opens contents of one shard.
struct ContentReader: Sendable {
    /// Frames fetched at once while a large content is verified or sent.
    static let window: Int32 = 4

    let ledger: WorkLedger

    /// Opens the content of a delivery.
    /// - Throws: `ContentFault` when it is not whole and unaltered; an error of the ledger when it could not be read.
    func open(_ delivery: PreparedDelivery) async throws -> OpenedContent {
        let message = delivery.claim.reference.message
        guard let key = delivery.contentKey else { throw ContentFault.missing }
        if let fetched = delivery.frames { return try Self.openWhole(delivery, key, fetched.frames) }
        if delivery.claim.size <= MessageOpener.smallContent {
            return try Self.openWhole(delivery, key, try await ledger.content(of: [message])[message] ?? [])
        }
        return try await verify(delivery, key)
    }

    /// The first bytes of a delivery that is not sent; empty where they cannot be opened.
    func head(_ delivery: PreparedDelivery) async -> [UInt8] {
        guard let key = delivery.contentKey else { return [] }
        var frame = delivery.frames?.frames.first
        if frame == nil {
            let message = delivery.claim.reference.message
            frame = try? await ledger.frames(of: message, from: 0, count: 1).first
        }
        var opener = FrameOpener(key: key, context: key.context)
        return frame.flatMap { try? opener.open($0).bytes } ?? []
    }

    private static func openWhole(
        _ delivery: PreparedDelivery, _ key: MessageKey, _ frames: [[UInt8]]
    ) throws -> OpenedContent {
        guard frames.count >= Int(delivery.claim.frames) else { throw ContentFault.missing }
        var opener = FrameOpener(key: key, context: key.context)
        var pieces: [[UInt8]] = []
        pieces.reserveCapacity(frames.count)
        do {
            for frame in frames { pieces.append(try opener.open(frame).bytes) }
            try opener.finish()
        } catch {
            throw ContentFault.altered
        }
        return OpenedContent(body: .memory(pieces), head: pieces.first ?? [])
    }

    private func verify(_ delivery: PreparedDelivery, _ key: MessageKey) async throws -> OpenedContent {
        let stream = FrameStream(ledger: ledger, delivery: delivery, key: key)
        var iterator = stream.makeAsyncIterator()
        var head: [UInt8] = []
        while let piece = try await iterator.next() {
            if head.isEmpty { head = piece }
        }
        return OpenedContent(body: .stream(stream), head: head)
    }
}

/// The plaintext of a large content, frame by frame, read from the ledger as it is asked for.
struct FrameStream: AsyncSequence, Sendable {
    let ledger: WorkLedger
    let delivery: PreparedDelivery
    let key: MessageKey
    /// Why it broke off: the sender of the content must know.
    let ending = Ending()

    init(ledger: WorkLedger, delivery: PreparedDelivery, key: MessageKey) {
        self.ledger = ledger
        self.delivery = delivery
        self.key = key
    }

    /// How reading ended, once it did before its time. The first word stands.
    final class Ending: Sendable {
        private let state = Mutex<ContentFault?>(nil)
        var fault: ContentFault? { state.withLock { $0 } }
        func set(_ fault: ContentFault) { state.withLock { $0 = $0 ?? fault } }
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        private let cursor: Cursor

        fileprivate init(_ cursor: Cursor) { self.cursor = cursor }

        mutating func next() async throws -> [UInt8]? { try await cursor.next(nil) }

        mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> [UInt8]? {
            try await cursor.next(actor)
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(Cursor(self)) }

    /// The place in one pass. Owned by one iterator, used by one task.
    fileprivate final class Cursor {
        private let source: FrameStream
        private var opener: FrameOpener
        private var fetched: [[UInt8]] = []
        private var index = 0
        private var taken: Int32 = 0

        init(_ source: FrameStream) {
            self.source = source
            opener = FrameOpener(key: source.key, context: source.key.context)
        }

        func next(_ isolation: isolated (any Actor)?) async throws -> [UInt8]? {
            let claim = source.delivery.claim
            if taken == claim.frames {
                guard opener.isComplete else { throw broken(.altered) }
                return nil
            }
            if index == fetched.count {
                fetched = try await source.ledger.frames(
                    of: claim.reference.message, from: taken, count: ContentReader.window)
                index = 0
                guard !fetched.isEmpty else { throw broken(.missing) }
            }
            let frame = fetched[index]
            index += 1
            taken += 1
            do {
                return try opener.open(frame).bytes
            } catch {
                throw broken(.altered)
            }
        }

        private func broken(_ fault: ContentFault) -> ContentFault {
            source.ending.set(fault)
            return fault
        }
    }
}
