// The side that opens: workers and the API. It asks the key service once per batch key, however many deliveries want it
// at the same moment, keeps a bounded number of batch keys, and erases what it evicts.

import Crypto
import Foundation
import Synchronization

/// Opens message keys through a key service.
public final class BatchKeyOpener: Sendable {
    private enum Entry {
        case opened(OpenedBatchKey, lastUse: UInt64)
        case opening([CheckedContinuation<KeyServiceError?, Never>])
    }

    private struct State {
        var entries: [BatchKeyContext: Entry] = [:]
        var opened = 0
        var uses: UInt64 = 0
        var calls = 0
        var queue: [CheckedContinuation<Void, Never>] = []
    }

    private let service: any KeyService
    private let region: String
    private let capacity: Int
    private let concurrency: Int
    private let queueLimit: Int
    private let state = Mutex(State())

    /// Makes an opener.
    ///
    /// - Parameters:
    ///   - region: the region whose entry of a record this service can open.
    ///   - capacity: batch keys kept in memory.
    ///   - concurrency: calls to the service at once; further ones wait, at most `queueLimit` of them.
    public init(
        service: any KeyService, region: String, capacity: Int = 4096, concurrency: Int = 8,
        queueLimit: Int = 4096
    ) {
        self.service = service
        self.region = region
        self.capacity = max(1, capacity)
        self.concurrency = max(1, concurrency)
        self.queueLimit = max(0, queueLimit)
    }

    /// Opens a message key.
    ///
    /// - Throws: `SealingError.integrityFailure` if record, wrapping or context are not what was sealed;
    ///   `KeyServiceError` if the service is away, refuses, or has destroyed the epoch.
    public func messageKey(
        record: BatchKeyRecord, wrapped: WrappedMessageKey, context: SealingContext
    ) async throws -> MessageKey {
        guard record.id == wrapped.batchKeyID, record.tenant == context.tenant,
            record.purpose == context.purpose,
            wrapped.index >= 0, wrapped.index < BatchKeyLimits.maximumMessages
        else { throw SealingError.integrityFailure }
        while true {
            switch lookUp(record.context, index: wrapped.index) {
            case .found(let key):
                return try wrapped.open(wrappingKey: key, context: context)
            case .openingElsewhere:
                if let error = await waitUntilOpened(record.context) { throw Self.asSeen(error) }
                try Task.checkCancellation()
            case .mine:
                try await openBatchKey(record)
            }
        }
    }

    /// Erases every batch key in memory.
    public func eraseAll() {
        state.withLock { state in
            state.entries = state.entries.filter { entry in
                if case .opening = entry.value { return true }
                return false
            }
            state.opened = 0
        }
    }

    private enum LookUp {
        case found(SymmetricKey)
        case openingElsewhere
        case mine
    }

    private func lookUp(_ batch: BatchKeyContext, index: Int32) -> LookUp {
        state.withLock { state in
            switch state.entries.removeValue(forKey: batch) {
            case .opened(var key, _):
                state.uses += 1
                let wrapping = key.wrappingKey(index)
                state.entries[batch] = .opened(key, lastUse: state.uses)
                // The index was checked: the walk always has an answer.
                return wrapping.map { .found($0) } ?? .mine
            case .opening(let waiters):
                state.entries[batch] = .opening(waiters)
                return .openingElsewhere
            case nil:
                state.entries[batch] = .opening([])
                return .mine
            }
        }
    }

    /// Waits while another task opens this batch key: its failure is theirs who waited too, unless it was cancelled.
    private func waitUntilOpened(_ batch: BatchKeyContext) async -> KeyServiceError? {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                guard case .opening(let waiters) = state.entries[batch] else { return true }
                state.entries[batch] = .opening(waiters + [continuation])
                return false
            }
            if isOver { continuation.resume(returning: nil) }
        }
    }

    private static func asSeen(_ error: KeyServiceError) -> any Error {
        error == .malformed ? SealingError.integrityFailure : error
    }

    private func openBatchKey(_ record: BatchKeyRecord) async throws {
        let result: Result<SecretBytes, KeyServiceError>
        do throws(KeyServiceError) {
            let entry = try record.entry(for: region)
            try await enter()
            defer { leave() }
            result = .success(try await service.unwrap(entry, of: record.context))
        } catch {
            result = .failure(error)
        }
        settle(record, result)
        if case .failure(let error) = result { throw Self.asSeen(error) }
    }

    private func settle(_ record: BatchKeyRecord, _ result: Result<SecretBytes, KeyServiceError>) {
        let waiters = state.withLock { state -> [CheckedContinuation<KeyServiceError?, Never>] in
            guard case .opening(let waiters) = state.entries.removeValue(forKey: record.context) else {
                return []
            }
            if case .success(let key) = result {
                if state.opened >= capacity { evictOldest(&state) }
                state.uses += 1
                state.entries[record.context] = .opened(
                    OpenedBatchKey(batchKeyID: record.id, key: key), lastUse: state.uses)
                state.opened += 1
            }
            return waiters
        }
        var outcome: KeyServiceError?
        if case .failure(let error) = result, !Task.isCancelled { outcome = error }
        for waiter in waiters { waiter.resume(returning: outcome) }
    }

    private func evictOldest(_ state: inout State) {
        var oldest: (batch: BatchKeyContext, use: UInt64)?
        for (batch, entry) in state.entries {
            if case .opened(_, let use) = entry, use < oldest?.use ?? .max { oldest = (batch, use) }
        }
        if let oldest {
            state.entries.removeValue(forKey: oldest.batch)
            state.opened -= 1
        }
    }

    /// Takes one of the `concurrency` places, or waits for one.
    private func enter() async throws(KeyServiceError) {
        enum Turn { case now, wait, refused }
        let turn = state.withLock { state -> Turn in
            if state.calls < concurrency {
                state.calls += 1
                return .now
            }
            return state.queue.count < queueLimit ? .wait : .refused
        }
        switch turn {
        case .now: return
        case .refused: throw .unavailable("too many batch keys wait to be opened")
        case .wait:
            await withCheckedContinuation { continuation in
                let isFree = state.withLock { state in
                    if state.calls < concurrency {
                        state.calls += 1
                        return true
                    }
                    state.queue.append(continuation)
                    return false
                }
                if isFree { continuation.resume() }
            }
        }
    }

    /// Gives the place to the next who waits, or back.
    private func leave() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.queue.isEmpty else { return state.queue.removeFirst() }
            state.calls -= 1
            return nil
        }
        next?.resume()
    }
}
