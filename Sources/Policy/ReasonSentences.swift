// Each reason code in words: one Dutch and one English sentence, to be read out to a sender. Numbers, names and
// the server's own words stand beside the sentence, never inside it.

/// A sentence in the two languages of a notification.
public struct ReasonSentence: Sendable, Hashable {
    /// Dutch.
    public let dutch: String
    /// English.
    public let english: String
}

extension ReasonCode {
    /// Every code that has a sentence of its own.
    public static var known: [ReasonCode] { sentences.keys.sorted { $0.rawValue < $1.rawValue } }

    /// The sentence; a general one for a code that is not known here.
    public var sentence: ReasonSentence {
        ReasonCode.sentences[self]
            ?? ReasonSentence(
                dutch: "Het bericht is niet afgeleverd om een reden die dit systeem niet kent.",
                english: "The message was not delivered for a reason that this system does not know.")
    }

    private static let sentences: [ReasonCode: ReasonSentence] = Dictionary(
        uniqueKeysWithValues: table.map { ($0, ReasonSentence(dutch: $1, english: $2)) })

    private static let table: [(ReasonCode, String, String)] = [
        (
            .starttlsNotSupported,
            "De mailserver van de ontvanger biedt geen versleutelde verbinding (STARTTLS) aan.",
            "The recipient's mail server does not offer an encrypted connection (STARTTLS)."
        ),
        (
            .certificateHostMismatch,
            "Het certificaat van de mailserver van de ontvanger staat op een andere naam.",
            "The certificate of the recipient's mail server carries another name."
        ),
        (
            .certificateExpired,
            "Het certificaat van de mailserver van de ontvanger is verlopen.",
            "The certificate of the recipient's mail server has expired."
        ),
        (
            .certificateNotTrusted,
            "Het certificaat van de mailserver van de ontvanger komt niet van een vertrouwde uitgever, of er ontbreekt een tussencertificaat.",
            "The certificate of the recipient's mail server does not come from a trusted issuer, or an intermediate certificate is missing."
        ),
        (
            .validationFailure,
            "De beveiliging van de verbinding met de mailserver van de ontvanger kon niet worden vastgesteld.",
            "The security of the connection to the recipient's mail server could not be established."
        ),
        (
            .tlsaInvalid,
            "Het certificaat van de mailserver van de ontvanger past niet bij de gegevens (TLSA) die de ontvanger in DNS publiceert.",
            "The certificate of the recipient's mail server does not match the data (TLSA) that the recipient publishes in DNS."
        ),
        (
            .dnssecInvalid,
            "De DNS-gegevens van de ontvanger zijn verkeerd ondertekend (DNSSEC); daarom is er niets verstuurd.",
            "The recipient's DNS data is wrongly signed (DNSSEC); therefore nothing was sent."
        ),
        (
            .daneRequired,
            "Voor dit bericht moet de mailserver van de ontvanger met DANE en DNSSEC zijn beveiligd, en dat is niet vastgesteld.",
            "This message requires the recipient's mail server to be protected by DANE and DNSSEC, and that was not established."
        ),
        (
            .stsPolicyFetchError,
            "Het beveiligingsbeleid (MTA-STS) dat het domein van de ontvanger aankondigt, kon niet worden opgehaald.",
            "The security policy (MTA-STS) that the recipient's domain announces could not be fetched."
        ),
        (
            .stsPolicyInvalid,
            "Wat het domein van de ontvanger als beveiligingsbeleid (MTA-STS) publiceert, is niet geldig.",
            "What the recipient's domain publishes as its security policy (MTA-STS) is not valid."
        ),
        (
            .stsWebPKIInvalid,
            "De webserver met het beveiligingsbeleid (MTA-STS) van de ontvanger heeft geen geldig certificaat.",
            "The web server with the recipient's security policy (MTA-STS) has no valid certificate."
        ),
        (
            .stsMXMismatch,
            "Het beveiligingsbeleid (MTA-STS) van de ontvanger noemt deze mailserver niet; daarom is er niets heen gestuurd.",
            "The recipient's security policy (MTA-STS) does not name this mail server; therefore nothing was sent to it."
        ),
        (
            .stsLookupFailed,
            "Het is niet bekend of de ontvanger een beveiligingsbeleid (MTA-STS) heeft; daarom is er nog niets verstuurd.",
            "It is not known whether the recipient has a security policy (MTA-STS); therefore nothing was sent yet."
        ),
        (
            .certificateNotYetValid,
            "Het certificaat van de mailserver van de ontvanger is nog niet geldig.",
            "The certificate of the recipient's mail server is not valid yet."
        ),
        (
            .certificateRevoked,
            "Het certificaat van de mailserver van de ontvanger is door de uitgever ingetrokken.",
            "The certificate of the recipient's mail server has been revoked by its issuer."
        ),
        (
            .outsideEEA,
            "De mailserver van de ontvanger staat buiten de Europese Economische Ruimte; daarheen mag dit bericht niet.",
            "The recipient's mail server is outside the European Economic Area; this message may not go there."
        ),
        (
            .tlsVersionTooLow,
            "De mailserver van de ontvanger gebruikt een verouderde versie van TLS.",
            "The recipient's mail server uses an outdated version of TLS."
        ),
        (
            .noForwardSecrecy,
            "De mailserver van de ontvanger gebruikt een sleuteluitwisseling die oude berichten niet beschermt (geen forward secrecy).",
            "The recipient's mail server uses a key exchange that does not protect earlier messages (no forward secrecy)."
        ),
        (
            .noCommonCipher,
            "De mailserver van de ontvanger biedt alleen verouderde versleutelingsmethoden aan.",
            "The recipient's mail server offers only outdated encryption methods."
        ),
        (
            .nameUnproven,
            "De naam van de mailserver van de ontvanger staat in DNS zonder ondertekening (DNSSEC) en is dus niet bewezen.",
            "The name of the recipient's mail server comes from unsigned DNS (no DNSSEC) and is therefore not proven."
        ),
        (
            .ntaNotCapable,
            "Voor dit bericht moet de organisatie van de ontvanger in DNS laten zien dat zij aan NTA 7516 meedoet, en dat doet zij niet.",
            "This message requires the recipient's organisation to show in DNS that it takes part in NTA 7516, and it does not."
        ),
        (
            .insufficientTLSAccepted,
            "De mailserver van de ontvanger laat ook onveilige instellingen van TLS toe.",
            "The recipient's mail server also accepts insecure settings of TLS."
        ),
        (
            .scanPending,
            "De mailserver van de ontvanger wordt eerst nog onderzocht voordat dit bericht erheen mag.",
            "The recipient's mail server must be examined first, before this message may go there."
        ),
        (
            .tlsHandshakeFailed,
            "Er kwam geen versleutelde verbinding met de mailserver van de ontvanger tot stand.",
            "No encrypted connection to the recipient's mail server could be set up."
        ),
        (
            .rulesetUnknown,
            "De beveiligingseisen van dit bericht zijn op dit moment niet bekend bij het verzendende systeem.",
            "The security demands of this message are at this moment not known to the sending system."
        ),
        (
            .daneAuthenticated,
            "Het bericht is versleuteld afgeleverd bij een mailserver die met DANE en DNSSEC bewezen de juiste is.",
            "The message was delivered encrypted to a mail server that DANE and DNSSEC prove to be the right one."
        ),
        (
            .stsAuthenticated,
            "Het bericht is versleuteld afgeleverd bij een mailserver die het beleid (MTA-STS) van de ontvanger noemt, met een vertrouwd certificaat.",
            "The message was delivered encrypted to a mail server that the recipient's policy (MTA-STS) names, with a trusted certificate."
        ),
        (
            .tlsAuthenticated,
            "Het bericht is versleuteld afgeleverd bij een mailserver met een vertrouwd certificaat op de juiste naam.",
            "The message was delivered encrypted to a mail server with a trusted certificate for the right name."
        ),
        (
            .tlsUnauthenticated,
            "Het bericht is versleuteld afgeleverd; de identiteit van de mailserver is niet vastgesteld en dat werd niet geëist.",
            "The message was delivered encrypted; the identity of the mail server was not established, and that was not demanded."
        ),
        (
            .cleartextAllowed,
            "Het bericht is zonder versleuteling afgeleverd, omdat de mailserver van de ontvanger die niet aanbiedt en het beleid dat toelaat.",
            "The message was delivered without encryption, because the recipient's mail server does not offer it and the policy allows that."
        ),
        (
            .dnsFailure,
            "De DNS-gegevens van de ontvanger konden niet worden opgevraagd.",
            "The recipient's DNS data could not be looked up."
        ),
        (
            .noSuchDomain,
            "Het domein van de ontvanger bestaat niet.",
            "The recipient's domain does not exist."
        ),
        (
            .nullMX,
            "Het domein van de ontvanger neemt geen e-mail aan.",
            "The recipient's domain does not accept e-mail."
        ),
        (
            .noMailHost,
            "Het domein van de ontvanger heeft geen mailserver met een adres.",
            "The recipient's domain has no mail server with an address."
        ),
        (
            .mailLoop,
            "Volgens DNS is dit systeem zelf de mailserver van de ontvanger; het bericht zou rondgaan.",
            "According to DNS this system is itself the recipient's mail server; the message would go in circles."
        ),
        (
            .domainInvalid,
            "Het domein in het adres van de ontvanger is geen geldige domeinnaam.",
            "The domain in the recipient's address is not a valid domain name."
        ),
        (
            .addressLiteral,
            "Het adres van de ontvanger noemt een IP-adres in plaats van een domein; daarheen wordt niet verstuurd.",
            "The recipient's address names an IP address instead of a domain; nothing is sent there."
        ),
        (
            .connectionRefused,
            "De mailserver van de ontvanger neemt geen verbinding aan.",
            "The recipient's mail server does not accept connections."
        ),
        (
            .connectionTimeout,
            "De mailserver van de ontvanger antwoordde niet op tijd.",
            "The recipient's mail server did not answer in time."
        ),
        (
            .connectionLost,
            "De verbinding met de mailserver van de ontvanger werd verbroken.",
            "The connection to the recipient's mail server was lost."
        ),
        (
            .protocolViolation,
            "De mailserver van de ontvanger hield zich niet aan de regels van SMTP.",
            "The recipient's mail server did not keep to the rules of SMTP."
        ),
        (
            .remoteDeferred,
            "De mailserver van de ontvanger neemt dit bericht nu niet aan, of neemt van dit systeem geen mail aan.",
            "The recipient's mail server does not take this message now, or takes no mail from this system."
        ),
        (
            .remoteRejected,
            "De mailserver van de ontvanger heeft het bericht geweigerd.",
            "The recipient's mail server rejected the message."
        ),
        (
            .sizeExceeded,
            "Het bericht is groter dan de mailserver van de ontvanger aanneemt.",
            "The message is larger than the recipient's mail server accepts."
        ),
        (
            .smtputf8NotSupported,
            "De mailserver van de ontvanger kan niet omgaan met adressen buiten ASCII (SMTPUTF8).",
            "The recipient's mail server cannot handle addresses outside ASCII (SMTPUTF8)."
        ),
        (
            .eightBitNotSupported,
            "De mailserver van de ontvanger kan niet omgaan met 8-bits berichten (8BITMIME).",
            "The recipient's mail server cannot handle 8-bit messages (8BITMIME)."
        ),
        (
            .requireTLSNotSupported,
            "De mailserver van de ontvanger kan niet beloven dat het bericht verderop versleuteld blijft (REQUIRETLS).",
            "The recipient's mail server cannot promise that the message stays encrypted further on (REQUIRETLS)."
        ),
        (
            .keyServiceUnavailable,
            "De sleutel van het bericht kon niet worden opgehaald; het bericht blijft verzegeld en wordt later geprobeerd.",
            "The key of the message could not be fetched; the message stays sealed and is tried later."
        ),
        (
            .integrityFailure,
            "Het bewaarde bericht is niet meer gelijk aan wat is verzegeld; er is niets verstuurd.",
            "The stored message is no longer what was sealed; nothing was sent."
        ),
        (
            .messageExpired,
            "Het bericht kon niet binnen de gestelde tijd worden afgeleverd.",
            "The message could not be delivered within the time that was set."
        ),
        (
            .keyDestroyed,
            "De sleutel van het bericht is vernietigd; het kan niet meer worden geopend.",
            "The key of the message has been destroyed; it can no longer be opened."
        ),
        (
            .finalDotInDoubt,
            "Het is onbekend of de mailserver van de ontvanger het bericht heeft aangenomen.",
            "It is not known whether the recipient's mail server took the message."
        ),
        (
            .replayed,
            "Hetzelfde bericht was al eerder aangenomen en wordt onder dat kenmerk afgeleverd.",
            "The same message had been taken in before and is delivered under that id."
        ),
        (
            .restoredInDoubt,
            "Het systeem is hersteld naar een eerder moment; het is onbekend of het bericht daarna is afgeleverd.",
            "The system was restored to an earlier moment; it is not known whether the message was delivered since."
        ),
        (
            .restoredLost,
            "Het systeem is hersteld naar een eerder moment; het bericht kwam daarna binnen en is verloren gegaan.",
            "The system was restored to an earlier moment; the message came in after it and is lost."
        ),
        (
            .restoredUnknown,
            "Het systeem is hersteld naar een eerder moment; niemand weet wat er daarna met het bericht is gebeurd.",
            "The system was restored to an earlier moment; nobody knows what became of the message since."
        ),
        (
            .operatorDecision,
            "Een beheerder heeft dit besloten.",
            "An operator decided this."
        ),
        (
            .operatorReturn,
            "Een beheerder heeft besloten dit bericht niet af te leveren.",
            "An operator decided not to deliver this message."
        ),
        (
            .overloaded,
            "Het systeem is op dit moment te druk; het bericht wordt later geprobeerd.",
            "The system is too busy at this moment; the message is tried later."
        ),
    ]
}
