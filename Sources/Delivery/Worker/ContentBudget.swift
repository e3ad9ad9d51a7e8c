// Bounds the sealed content that is kept in memory for deliveries that have not begun (law 9). What does not fit stays in the
// ledger until it is sent.

import Synchronization

/// A number of bytes that may be in memory at once.
final class ContentBudget: Sendable {
    private let limit: Int
    private let used = Mutex(0)

    init(bytes limit: Int) { self.limit = limit }

    /// Takes a share, if there is room.
    func take(_ bytes: Int) -> Share? {
        let hasRoom = used.withLock { used in
            guard used + bytes <= limit else { return false }
            used += bytes
            return true
        }
        return hasRoom ? Share(self, bytes) : nil
    }

    /// A part of the budget; it goes back when the last reference to it does.
    final class Share: Sendable {
        private let budget: ContentBudget
        private let bytes: Int

        fileprivate init(_ budget: ContentBudget, _ bytes: Int) {
            self.budget = budget
            self.bytes = bytes
        }

        deinit { budget.used.withLock { $0 -= bytes } }
    }
}

/// Sealed frames in memory, with their share of the budget.
struct FetchedFrames: Sendable {
    let frames: [[UInt8]]
    let share: ContentBudget.Share
}
