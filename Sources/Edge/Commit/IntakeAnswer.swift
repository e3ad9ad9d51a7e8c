// What a connection hands to the group commit, and what it hears back.

import Foundation
import Ledger

/// One thing that is to be committed.
package enum IntakeWork: Sendable {
    /// A message that ends: somebody waits for its 250.
    case message(MessageRow)
    /// Frames of a message that goes on.
    case upload(UploadRow)
    /// A refusal to record; nobody waits.
    case rejection(RejectionRow)

    /// Octets of sealed content.
    var size: Int {
        switch self {
        case .message(let row): row.frames.reduce(1024) { $0 + $1.count }
        case .upload(let row): row.frames.reduce(256) { $0 + $1.count }
        case .rejection: 128
        }
    }
}

/// How it ended.
package enum IntakeAnswer: Sendable, Equatable {
    /// Committed without a warning: 250.
    case durable
    /// These bytes and this envelope were taken before, under this id, which now stands: 250 with it.
    case replayed(UUID)
    /// Nothing was kept: the database could not be reached in time.
    case unavailable
    /// Nothing was kept: the database's disk is full.
    case storageFull
    /// Nothing was kept: too much waits already.
    case overloaded
    /// Whether it was kept is not known to the end, or it was taken back.
    case unsettled
    /// Nothing was kept, and this very item is why.
    case atFault
}
