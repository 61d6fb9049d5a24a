"""What only the operator knows of the processing: texts for the record of processing activities and the impact assessment."""

from dialgate.config.fields import Strict


class ProcessingTexts(Strict, frozen=True, kw_only=True):
    """Texts of a controller for its record of processing activities (GDPR art. 30) and its impact assessment (art. 35).

    The gate writes both from the configuration (`docs/how-to/officer-desk.md`). A text that is missing is shown as not stated.
    """

    joint_controllers: str = ""
    """Joint controllers with their contact details, or that there are none (art. 30(1)(a))."""
    representative: str = ""
    """The controller's representative in the Union, or that none is needed (art. 30(1)(a))."""
    categories: str = ""
    """Categories of data subjects and of data beside those that the gate stores, for example names in the CRM (art. 30(1)(c))."""
    recipients: str = ""
    """Recipients that the configuration does not name, such as call centres, telephone carriers and the hosting provider (art. 30(1)(d))."""
    transfers: str = ""
    """Transfers to third countries with their safeguards, or that there are none (art. 30(1)(e))."""
    measures: str = ""
    """Security measures that are not the gate's, such as disk encryption, TLS at a proxy, training and access to the building (art. 30(1)(g))."""
    necessity: str = ""
    """Why the processing is necessary for its purposes, and proportionate (art. 35(7)(b))."""
    risks: str = ""
    """The assessment of the risks: how likely and how severe each is (art. 35(7)(c))."""
    views: str = ""
    """The views of data subjects or their representatives, or why they were not sought (art. 35(9))."""
    advice: str = ""
    """The advice of the data protection officer (art. 35(2))."""
    conclusion: str = ""
    """The result, who approved it and when, when it is reviewed, and whether the authority is consulted first (art. 35(11) and 36)."""


class Provider(Strict, frozen=True, kw_only=True):
    """The company that runs the gate for the controllers, as their processor. With it, the gate also writes its record (GDPR art. 30(2))."""

    name: str
    """Name."""
    contact: str = ""
    """How it can be contacted."""
    officer: str = ""
    """Its data protection officer and how to reach them."""
    transfers: str = ""
    """Its transfers to third countries with their safeguards, or that there are none (art. 30(2)(c))."""
    measures: str = ""
    """Its security measures that are not the gate's (art. 30(2)(d))."""
