// The TXT record with which a domain says that it has an MTA-STS policy (RFC 8461 §3.1):
//
//     _mta-sts.example.nl.  TXT  "v=STSv1; id=20260101T000000;"
//
// It carries no policy, only the name of the present instance: a sender that knows a policy by this id need not
// fetch it again. No record, several records and a broken one mean the same, that there is no policy to be
// discovered now; a policy fetched earlier stays in force all the same (`MTASTSCacheEntry`). A lookup that failed is
// none of these and never comes here.
import DNS

/// The one valid record of a domain.
struct MTASTSRecord: Sendable, Hashable {
    /// Which instance of the policy is published: 1 to 32 letters and digits, compared as they are, without order.
    let id: String

    /// Why an answer names no policy.
    enum Absence: Sendable, Hashable {
        /// No TXT record here begins with `v=STSv1;`.
        case noRecord
        /// More than one does (RFC 8461 §3.1: not exactly one is none).
        case severalRecords
        /// The one that does is not a record.
        case malformed(Fault)
    }

    /// What is wrong with a record.
    enum Fault: String, Error, Sendable, Hashable {
        /// No `id` field.
        case noID = "no id"
        /// The first `id` is not 1 to 32 letters and digits.
        case invalidID = "an id that is not 1 to 32 letters and digits"
        /// A field is not `name=value` in the letters that the grammar allows.
        case invalidField = "a field that is not name=value"
    }

    /// What an answer says.
    enum Outcome: Sendable, Hashable {
        /// A policy is published.
        case record(MTASTSRecord)
        /// None is.
        case absent(Absence)
    }

    /// Reads the records at `_mta-sts.<domain>`, each with its strings joined without a space; other types are
    /// passed over.
    static func read(_ records: [DNSRecord]) -> Outcome {
        var candidates: [[UInt8]] = []
        for case .txt(let strings) in records {
            let text = Array(strings.joined())
            if isSTSv1(text) { candidates.append(text) }
        }
        guard let only = candidates.first else { return .absent(.noRecord) }
        guard candidates.count == 1 else { return .absent(.severalRecords) }
        do throws(Fault) { return .record(try MTASTSRecord(text: only)) } catch {
            return .absent(.malformed(error))
        }
    }

}

extension MTASTSRecord {
    /// Reads one record that begins with the version.
    private init(text: [UInt8]) throws(Fault) {
        var fields = text.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false).dropFirst()
        // The delimiter may also end the record (`[sts-field-delim]`); two in a row are no grammar.
        if fields.last.map(RecordText.trimmed)?.isEmpty == true { fields = fields.dropLast() }
        var id: ArraySlice<UInt8>?
        for field in fields.map(RecordText.trimmed) {
            guard let equals = field.firstIndex(of: UInt8(ascii: "=")) else { throw .invalidField }
            let (name, value) = (field[..<equals], field[(equals + 1)...])
            if name.elementsEqual("id".utf8) {
                // RFC 8461 §3.2: of a field that may not be repeated, the first counts and the rest is ignored.
                if id == nil { id = value }
                continue
            }
            guard RecordText.isExtensionName(name), !value.isEmpty, value.allSatisfy(Self.isValueByte) else {
                throw .invalidField
            }
        }
        guard let id else { throw .noID }
        guard (1...32).contains(id.count), id.allSatisfy(RecordText.isAlphanumeric) else { throw .invalidID }
        self.id = String(decoding: id, as: UTF8.self)
    }

    /// `v=STSv1`, in these cases of letters, and a delimiter.
    private static func isSTSv1(_ text: [UInt8]) -> Bool {
        let version = Array("v=STSv1".utf8)
        guard text.starts(with: version) else { return false }
        return RecordText.trimmed(text[version.count...]).first == UInt8(ascii: ";")
    }

    /// `sts-ext-value`: what is visible, without `;` and `=`.
    private static func isValueByte(_ byte: UInt8) -> Bool {
        (0x21...0x7e).contains(byte) && byte != UInt8(ascii: ";") && byte != UInt8(ascii: "=")
    }
}
