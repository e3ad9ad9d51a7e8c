// What can be restored of one shard, and what is wrong with it.

import Foundation

/// The recovery points of a shard.
public struct ShardPoints: Sendable, Codable, Equatable {
    /// One backup, as an operator sees it.
    public struct Backup: Sendable, Codable, Equatable {
        /// pgBackRest's name for it.
        public var label: String
        /// Whether it stands alone.
        public var full: Bool
        /// When it was complete.
        public var at: Date
        /// Octets of the database.
        public var size: Int
        /// Octets that it added to the repository.
        public var added: Int
    }

    /// The shard.
    public var shard: String
    /// The moments that can be restored, metadata and events; nil: none.
    public var window: RestorableWindow?
    /// Those whose content can still be opened; nil: none.
    public var contentWindow: RestorableWindow?
    /// The backups, the oldest first.
    public var backups: [Backup]
    /// Where the newest WAL is, as PostgreSQL names segments; nil: none.
    public var newestSegment: String?
    /// What keeps points from being restored, or from being made, each with what to do.
    public var troubles: [String]

    /// How old the newest point may be before that is a trouble, in seconds. Six times what an idle leader waits.
    static let lateness: TimeInterval = 180
    /// How many octets the repository's disk must have left: a few segments.
    static let leastRoom = 64 << 20

    /// What is wrong when so many octets are left for the repository; nil: nothing.
    static func lackOfRoom(_ room: Int?) -> String? {
        guard let room, room < leastRoom else { return nil }
        return
            "the disk of the repository is full: \(room / 1_000_000) MB are left; nothing more can be kept there"
    }

    /// - Parameters:
    ///   - newest: the newest transaction in the archive; nil: there is none.
    ///   - room: octets that the repository's disk has left; nil: nobody knows.
    ///   - contentFrom: the first moment of the oldest key epoch that is not destroyed.
    init(
        shard: String, _ information: RepositoryInformation, _ archive: BackupRepository.Archive?,
        newest: Date?, contentFrom: Date?, room: Int? = nil, now: Date
    ) {
        self.shard = shard
        backups = information.backups.map {
            Backup(label: $0.label, full: $0.isFull, at: $0.ended, size: $0.size, added: $0.added)
        }
        newestSegment = archive?.timelines.onTheWay(archive?.segments ?? []).last.map { "\($0)" }
        troubles = []
        switch information.trouble {
        case .notThere:
            troubles.append("nothing was kept yet: zegel recovery create")
        case .wrongPassphrase:
            troubles.append(
                "the repository cannot be decrypted: the passphrase is another one's; put the right one into secrets/repository.passphrase and give zegel recovery enable again"
            )
        case .other(let words): troubles.append("the repository cannot be read: \(words)")
        case nil:
            if information.backups.isEmpty { troubles.append("there is no backup: zegel recovery create") }
        }
        let usable = archive.map { information.usable($0.timelines) } ?? []
        for backup in usable where backup.isDamaged {
            troubles.append(
                "pages were damaged in the database when \(backup.label) was made: zegel recovery verify")
        }
        if let archive, let newest, let first = information.oldest(archive) {
            // Its end is told in whole seconds.
            let window = RestorableWindow(from: first.ended.addingTimeInterval(1), to: newest)
            if window.from < window.to { self.window = window }
            if first != usable.first {
                troubles.append(
                    "WAL is missing before \(first.label): what is older cannot be restored to every second; zegel recovery verify names it"
                )
            }
        }
        if let window, let contentFrom {
            contentWindow = window.intersection(RestorableWindow(from: contentFrom, to: .distantFuture))
        }
        if let words = Self.lackOfRoom(room) { troubles.append(words) }
        if let newest, now.timeIntervalSince(newest) > Self.lateness {
            let age = Int(now.timeIntervalSince(newest))
            troubles.append(
                "the newest point is \(age) s old: archiving stands still, or nothing is committed; see the log of its leader for pgbackrest"
            )
        }
    }
}

extension RepositoryInformation {
    /// Backups on the way that an archive tells, the oldest first.
    func usable(_ timelines: ArchivedTimelines) -> [Backup] {
        backups.filter { timelines.contains($0.lastSegment.timeline, $0.lastPosition) }
    }

    /// The oldest backup from which every moment up to the newest can be reached; nil: there is none.
    func oldest(_ archive: BackupRepository.Archive) -> Backup? {
        let usable = usable(archive.timelines)
        var oldest = usable.last
        for (older, newer) in zip(usable, usable.dropFirst()).reversed() {
            let run = Set(archive.timelines.run(from: older.firstSegment, in: archive.segments))
            guard run.contains(newer.lastSegment) else { break }
            oldest = older
        }
        return oldest
    }

    /// The newest backup from which a moment can be restored on the way that an archive tells; nil: none.
    func set(for moment: Date, _ timelines: ArchivedTimelines) -> Backup? {
        usable(timelines).last { $0.ended.addingTimeInterval(1) <= moment }
    }
}
