// Results that wait for their commit. A value: it says which go together. One commit for many, at most so many rows and bytes,
// all of one worker id: those of an id whose lease lapsed go apart, since only their 250s count.

import Foundation
import Ledger

/// The queue in front of the commit.
public struct CompletionBatch: Sendable {
    /// A result and the worker id it was claimed under.
    public struct Entry: Sendable {
        /// The id that claimed the delivery.
        public let worker: UUID
        /// The result.
        public let completion: Completion
    }

    /// Most results of one commit.
    public static let maximumCount = 500
    /// Most bytes of sealed details and notifications of one commit, beyond the first result.
    public static let maximumBytes = 8 << 20

    private var entries: [Entry] = []
    private var start = 0

    /// Nothing waits.
    public init() {}

    /// How many wait.
    public var count: Int { entries.count - start }
    /// Whether none waits.
    public var isEmpty: Bool { count == 0 }

    /// Whether as many wait as one commit takes.
    public var isFull: Bool { count >= Self.maximumCount }

    /// One more waits.
    public mutating func append(_ completion: Completion, worker: UUID) {
        entries.append(Entry(worker: worker, completion: completion))
    }

    /// Takes those of the next commit, in order of arrival; empty when none waits.
    public mutating func take() -> (worker: UUID, completions: [Completion])? {
        guard start < entries.count else { return nil }
        let worker = entries[start].worker
        var taken: [Completion] = []
        var bytes = 0
        while start < entries.count, taken.count < Self.maximumCount, entries[start].worker == worker {
            let completion = entries[start].completion
            bytes += Self.size(of: completion)
            if bytes > Self.maximumBytes, !taken.isEmpty { break }
            taken.append(completion)
            start += 1
        }
        if start == entries.count {
            entries.removeAll(keepingCapacity: true)
            start = 0
        } else if start > 4 * Self.maximumCount {
            entries.removeFirst(start)
            start = 0
        }
        return (worker, taken)
    }

    private static func size(of completion: Completion) -> Int {
        var bytes = 0
        for event in completion.events { bytes += event.sealedDetail?.count ?? 0 }
        for notification in completion.notifications {
            for frame in notification.message.frames { bytes += frame.count }
        }
        return bytes
    }
}
