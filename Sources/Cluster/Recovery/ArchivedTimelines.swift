// Which WAL leads to the newest point of an archive. A shard's leaders change, and a leader that was lost may have archived what nobody
// acknowledged: the history of the newest timeline tells which part of each older one counts.

/// The timelines from the beginning of an archive to its newest one. A value without I/O.
struct ArchivedTimelines: Sendable, Equatable {
    /// A part of the way.
    struct Stretch: Sendable, Equatable {
        /// The timeline.
        var timeline: UInt32
        /// Where the next one left it, in octets; nil: it is the newest.
        var end: Int?
    }

    /// The way, the oldest timeline first.
    let stretches: [Stretch]

    /// The timeline that a recovery aims at. Named to PostgreSQL as a number: its `latest` stops at the first number without a history,
    /// and shards pass over numbers that somebody else has claimed.
    var newest: UInt32 { stretches.last?.timeline ?? 1 }

    /// - Parameters:
    ///   - newest: the highest timeline that there is anything of.
    ///   - history: the text of its history file; nil: it has none, so it is the first.
    /// - Throws: `answer` for a history that is none.
    init(newest: UInt32, history: String?) throws(ClusterError) {
        var stretches: [Stretch] = []
        for line in (history ?? "").split(separator: "\n") where !line.hasPrefix("#") {
            let words = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
            guard words.count >= 2, let timeline = UInt32(words[0]),
                let end = WALSegment.position(String(words[1])), timeline < newest,
                stretches.last.map({ $0.timeline < timeline }) ?? true
            else {
                throw ClusterError(.answer, "the archived history of timeline \(newest) is damaged: \(line)")
            }
            stretches.append(Stretch(timeline: timeline, end: end))
        }
        self.stretches = stretches + [Stretch(timeline: newest, end: nil)]
    }

    /// Whether a place of a timeline lies on the way.
    func contains(_ timeline: UInt32, _ position: Int) -> Bool {
        stretches.contains { $0.timeline == timeline && $0.end.map { position <= $0 } ?? true }
    }

    /// Of these segments those on the way, ascending. Of the segment in which a timeline was left, the next timeline has its own.
    func onTheWay(_ segments: [WALSegment]) -> [WALSegment] {
        let byTimeline = Dictionary(grouping: segments) { $0.timeline }
        return stretches.flatMap { stretch in
            (byTimeline[stretch.timeline] ?? []).sorted().filter { segment in
                stretch.end.map { segment.number < $0 / WALSegment.size } ?? true
            }
        }
    }

    /// The segments from one on that are there without a gap; what comes behind one cannot be reached from before it.
    /// - Parameters:
    ///   - first: where it begins; on the way.
    ///   - segments: what is there.
    func run(from first: WALSegment, in segments: [WALSegment]) -> [WALSegment] {
        let way = onTheWay(segments).filter { $0.timeline > first.timeline || $0.number >= first.number }
        guard let gap = gaps(from: first, in: segments).first else { return way }
        return Array(way.prefix { $0 < gap })
    }

    /// The segments that are missing between one and the last.
    /// - Parameters:
    ///   - first: the segment from which on all must be there; on the way.
    ///   - segments: what is there.
    func gaps(from first: WALSegment, in segments: [WALSegment]) -> [WALSegment] {
        let there = Set(segments)
        var missing: [WALSegment] = []
        var next = first.number
        for stretch in stretches where stretch.timeline >= first.timeline {
            let last =
                stretch.end.map { $0 / WALSegment.size - 1 }
                ?? segments.filter { $0.timeline == stretch.timeline }.map(\.number).max() ?? next - 1
            // A later one may begin before it: what both have counts once.
            if next > last { continue }
            for number in next...last {
                let segment = WALSegment(timeline: stretch.timeline, number: number)
                if !there.contains(segment) { missing.append(segment) }
            }
            next = last + 1
        }
        return missing
    }
}
