// Every recipient of the lab, by subject.

extension RecipientCase {
    /// All of them, in the order in which they are read.
    package static let all: [RecipientCase] =
        routing + security + endEntity + trustAnchors + unusable + policies + fetches + ntaRecords
        + certificates
        + parameters + sessions + lookups

    /// Those that a person asked for with `ZEGEL_CASES`, names or their beginnings, with commas between; all without it.
    package static func chosen(_ names: String?) -> [RecipientCase] {
        guard let names, !names.isEmpty else { return all }
        let beginnings = names.split(separator: ",")
        return all.filter { row in beginnings.contains { row.name.hasPrefix($0) } }
    }
}
