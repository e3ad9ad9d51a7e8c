// Partitions hold a day of ids each. A statement that joins ids with a partitioned table finds each one's partition, but sets up a
// scan of every partition first, which costs a small batch more than its rows do. With the least and greatest id as bounds the
// server leaves out all days but those of the batch when the statement begins.

import Foundation
import Postgres

/// The least and the greatest of some ids.
struct IDRange {
    /// Both as parameters of `column BETWEEN … AND …`; of no ids: a range that holds none.
    let parameters: [PostgresValue]

    init(_ ids: some Collection<UUID>) {
        let greatest = UUID(
            uuid: (255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255))
        let least = UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        parameters = [.uuid(ids.min() ?? greatest), .uuid(ids.max() ?? least)]
    }
}
