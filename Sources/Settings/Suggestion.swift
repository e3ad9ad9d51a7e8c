// "Did you mean": the known name nearest to one that is not known.

/// Finds near misses among names.
enum Suggestion {
    /// A fix that names the nearest of `names`, or `otherwise` when none is near.
    static func fix(for wrong: String, among names: [String], otherwise: String) -> String {
        guard let near = nearest(to: wrong, among: names) else { return otherwise }
        return "did you mean \(near)?"
    }

    /// The nearest name within a third of its length, the first in the alphabet of equals.
    static func nearest(to wrong: String, among names: [String]) -> String? {
        guard wrong.utf8.count <= 100 else { return nil }
        let text = Array(wrong.lowercased().utf8)
        let last = wrong.split(separator: ".").last.map(String.init)
        let scored = names.sorted().map { name -> (name: String, distance: Int) in
            let distance = editDistance(text, Array(name.lowercased().utf8))
            // `hostname` or `edge.tls.hostname` for `edge.hostname`: right last word, wrong group.
            let sameWord = last != nil && name.split(separator: ".").last.map(String.init) == last
            return (name, sameWord ? min(distance, 3) : distance)
        }
        guard let best = scored.min(by: { $0.distance < $1.distance }),
            best.distance <= max(2, best.name.utf8.count / 3)
        else { return nil }
        return best.name
    }

    /// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
    static func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
        var before = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in 1...a.count {
            var row = [i] + [Int](repeating: 0, count: b.count)
            for j in 1...b.count {
                row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    row[j] = min(row[j], before[j - 2] + 1)
                }
            }
            (before, last) = (last, row)
        }
        return last[b.count]
    }
}
