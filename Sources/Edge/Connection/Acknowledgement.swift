// What shows that a client has its 250: octets that arrived after it was written. What a client sent ahead, behind its final dot,
// shows nothing, whether it had been read by then or still lay in the kernel (design §7: replayed accepts).

import Foundation
import NIOCore

/// The replay tags that one connection's 250s stand for, until its client shows that it got them. A value without I/O. `Keeper` is
/// whoever keeps a tag: the committer of its shard.
struct Acknowledgement<Keeper> {
    /// Most tags kept: a client that sends whole messages ahead (BDAT) may have many answers under way. An older one ends with
    /// its window.
    static var maximumTags: Int { 64 }

    private var tags: [(tag: [UInt8], keeper: Keeper)] = []
    /// Octets of before the last 250 may still come out of the kernel.
    private(set) var isBehind = false

    /// A 250 is about to be written.
    /// - Parameter hasUnread: octets wait in the kernel: they came before it.
    mutating func answered(_ tag: [UInt8]?, keptBy keeper: Keeper, hasUnread: Bool) {
        if hasUnread { isBehind = true }
        guard let tag else { return }
        if tags.count == Self.maximumTags { tags.removeFirst() }
        tags.append((tag, keeper))
    }

    /// Octets were read. Answers the tags that they acknowledge.
    mutating func received() -> [(tag: [UInt8], keeper: Keeper)] {
        guard !isBehind, !tags.isEmpty else { return [] }
        defer { tags = [] }
        return tags
    }

    /// A read is over. Once nothing is left in the kernel, all that comes then arrives after the 250.
    /// - Parameter hasUnread: asked only where it matters.
    mutating func readEnded(hasUnread: () -> Bool) {
        if isBehind { isBehind = hasUnread() }
    }
}

extension Channel {
    /// Whether octets wait to be read, asked of the kernel. False where it cannot tell, as for a channel that is closed.
    var hasUnreadOctets: Bool {
        // The first 32-bit word of SO_MEMINFO is the memory that unread octets take up; FIONREAD cannot be asked through a channel.
        let option = ChannelOptions.Types.SocketOption(level: .socket, name: .init(rawValue: SO_MEMINFO))
        guard let words = try? syncOptions?.getOption(option) else { return false }
        return withUnsafeBytes(of: words) { $0.load(as: UInt32.self) } > 0
    }
}
