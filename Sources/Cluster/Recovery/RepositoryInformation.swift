// What a repository holds of one shard, as `pgbackrest info --output=json` tells.

import Foundation

/// The backups of a shard, and whether the repository can be read.
struct RepositoryInformation: Sendable, Equatable {
    /// One backup.
    struct Backup: Sendable, Equatable {
        /// What pgBackRest calls it: `20261127-172118F`, or with the time of its own behind the full one it builds on.
        var label: String
        /// Whether it stands alone.
        var isFull: Bool
        /// When it was begun, in seconds since 1970.
        var began: Date
        /// When it was complete: the first moment that can be restored from it.
        var ended: Date
        /// The first WAL segment that it needs.
        var firstSegment: WALSegment
        /// The last one.
        var lastSegment: WALSegment
        /// The place in the WAL from which on it is consistent.
        var lastPosition: Int
        /// Octets of the database.
        var size: Int
        /// Octets that it added to the repository.
        var added: Int
        /// Pages of it were damaged already in the database.
        var isDamaged: Bool
    }

    /// The oldest first.
    var backups: [Backup]
    /// PostgreSQL's own number of the cluster that it is of; nil: nothing was kept yet.
    var system: UInt64?
    /// The archive's folder under `archive/STANZA`; nil: nothing was kept yet.
    var archive: String?
    /// Why it cannot be read; nil: it can.
    var trouble: Trouble?

    /// Why a repository cannot be used.
    enum Trouble: Sendable, Equatable {
        /// The shard was never prepared in it.
        case notThere
        /// It cannot be decrypted.
        case wrongPassphrase
        /// pgBackRest's words.
        case other(String)
    }
}

extension RepositoryInformation {
    private struct Answer: Decodable {
        struct Archive: Decodable { var id: String }
        struct Backup: Decodable {
            struct Segments: Decodable {
                var start: String?
                var stop: String?
            }
            struct Size: Decodable {
                struct Repository: Decodable {
                    var delta: Int?
                }
                var size: Int
                var repository: Repository
            }
            struct Positions: Decodable { var stop: String? }
            struct Times: Decodable {
                var start: Int
                var stop: Int
            }
            var archive: Segments
            var error: Bool?
            var info: Size
            var label: String
            var lsn: Positions?
            var timestamp: Times
            var type: String
        }
        struct Database: Decodable {
            var system: UInt64
            private enum CodingKeys: String, CodingKey { case system = "system-id" }
        }
        struct Status: Decodable {
            var code: Int
            var message: String
        }
        struct Repository: Decodable { var status: Status }
        var archive: [Archive]
        var backup: [Backup]
        var db: [Database]
        var repo: [Repository]?
        var status: Status
    }

    // pgBackRest's own codes of a stanza: it is there and has no backup, or is not there.
    private static let good = [0, 2]
    private static let missing = [1, 3]

    // What is decrypted with another key is no text of its own.
    private static func isOfCipher(_ words: String) -> Bool {
        words.contains("FormatError") || words.contains("CryptoError")
    }

    /// Reads what pgBackRest answers about one stanza.
    /// - Throws: `answer` when it is no answer of pgBackRest.
    init(json: [UInt8]) throws(ClusterError) {
        let answers: [Answer]
        do { answers = try JSONDecoder().decode([Answer].self, from: Data(json)) } catch {
            // It quotes what it could not read, byte for byte.
            guard Self.isOfCipher(String(decoding: json, as: UTF8.self)) else {
                throw ClusterError(.answer, "pgBackRest does not answer as it should: \(error)")
            }
            self.init(backups: [], system: nil, archive: nil, trouble: .wrongPassphrase)
            return
        }
        guard let answer = answers.first else {
            self.init(backups: [], system: nil, archive: nil, trouble: .notThere)
            return
        }
        var trouble: Trouble?
        if Self.missing.contains(answer.status.code) {
            trouble = .notThere
        } else if !Self.good.contains(answer.status.code) {
            let words = answer.repo?.first?.status.message ?? answer.status.message
            trouble = Self.isOfCipher(words) ? .wrongPassphrase : .other(words)
        }
        let backups = answer.backup.compactMap { backup -> Backup? in
            guard let first = backup.archive.start.flatMap(WALSegment.init),
                let segment = backup.archive.stop.flatMap(WALSegment.init),
                let position = backup.lsn?.stop.flatMap(WALSegment.position)
            else { return nil }
            return Backup(
                label: backup.label, isFull: backup.type == "full",
                began: Date(timeIntervalSince1970: TimeInterval(backup.timestamp.start)),
                ended: Date(timeIntervalSince1970: TimeInterval(backup.timestamp.stop)),
                firstSegment: first, lastSegment: segment, lastPosition: position, size: backup.info.size,
                added: backup.info.repository.delta ?? 0, isDamaged: backup.error ?? false)
        }
        self.init(
            backups: backups.sorted { $0.ended < $1.ended }, system: answer.db.last?.system,
            archive: answer.archive.last?.id, trouble: trouble)
    }
}
