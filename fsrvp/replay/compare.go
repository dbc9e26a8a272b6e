package replay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// A Difference is one difference between a server's answer and the recorded one.
type Difference struct {
	Index    int                  // of the Exchange in the recording passed to Run
	Exchange *transcript.Exchange // as it was recorded
	// Field is the result that differs, by its name in the IDL; "Return" for the status, "Fault" if
	// one of the answers was a fault.
	Field string
	// Recorded is the recorded value, in today's ids and names, and Now the answered one. Their
	// types are
	//   - fsrvp.Status for "Return",
	//   - *dcerpc.Fault for "Fault", or nil if there was none,
	//   - bool for BOOLs, uint32 for numbers, fsrvp.Compatibility and fsrvp.Filetime,
	//   - string for names, with "" for NULL,
	//   - fsrvp.SetID and fsrvp.CopyID; Recorded is the string "an id of its own" if the server
	//     gave an id that belongs to another set or copy,
	//   - *fsrvp.ShareMapping1, if one of the two is nil.
	Recorded, Now any
}

// Share returns the share that the recorded call names; empty for methods without a share.
func (d *Difference) Share() string { return transcript.ShareOf(d.Exchange.Request) }

// String returns one line, `call 14 IsPathShadowCopied \\fs\data: Return: recorded 0x8004230C
// FSRVP_E_NOT_SUPPORTED, now 0x00000000 ZERO`. Calls are counted from 1.
func (d *Difference) String() string {
	call := fmt.Sprintf("call %d %v", d.Index+1, d.Exchange.Opnum())
	if share := d.Share(); share != "" {
		call += " " + share
	}
	return fmt.Sprintf("%s: %s: recorded %s, now %s", call, d.Field, describe(d.Recorded), describe(d.Now))
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case fsrvp.Status:
		return fmt.Sprintf("0x%08X %s", uint32(v), v.Name())
	case *dcerpc.Fault:
		return fmt.Sprintf("0x%08X %v", uint32(v.Status), v.Status)
	case fsrvp.Filetime:
		return v.Time().Format(transcript.TimestampForm)
	case string:
		if v == ownID {
			return v
		}
		return quote(v)
	case *fsrvp.ShareMapping1:
		if v == nil {
			return "none"
		}
		return "a mapping to " + quote(v.ShadowCopyShareName.String)
	}
	return fmt.Sprint(v)
}

// quote quotes a string, without doubling the backslashes of UNC paths if it can.
func quote(s string) string {
	if strconv.CanBackquote(s) && !strings.Contains(s, `"`) {
		return `"` + s + `"`
	}
	return strconv.Quote(s)
}

// MarshalJSON returns an object with stable names and types: call (counted from 1), time, client,
// server, opnum, method, share (absent if the method has none), field, recorded and now (statuses
// and faults as numbers, ids as strings), and recorded_text and now_text, for people.
func (d *Difference) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Call         int                  `json:"call"`
		Time         transcript.Timestamp `json:"time"`
		Client       string               `json:"client"`
		Server       string               `json:"server"`
		Opnum        fsrvp.Opnum          `json:"opnum"`
		Method       string               `json:"method"`
		Share        string               `json:"share,omitempty"`
		Field        string               `json:"field"`
		Recorded     any                  `json:"recorded"`
		Now          any                  `json:"now"`
		RecordedText string               `json:"recorded_text"`
		NowText      string               `json:"now_text"`
	}{
		d.Index + 1, transcript.Timestamp{Time: d.Exchange.Time}, d.Exchange.Client, d.Exchange.Server, d.Exchange.Opnum(), d.Exchange.Opnum().String(),
		d.Share(), d.Field, number(d.Recorded), number(d.Now), describe(d.Recorded), describe(d.Now),
	})
}

// number returns faults by their number.
func number(v any) any {
	if f, ok := v.(*dcerpc.Fault); ok {
		return uint32(f.Status)
	}
	return v
}

// A comparison collects the differences of one call.
type comparison struct {
	*translation
	index    int
	recorded *transcript.Exchange
	found    []Difference
}

func (c *comparison) differs(field string, recorded, now any) {
	c.found = append(c.found, Difference{c.index, c.recorded, field, recorded, now})
}

// learned records the result of a learn function.
func (c *comparison) learned(field string, want, now any) {
	if want != nil {
		c.differs(field, want, now)
	}
}

// equal compares two values that need no mapping.
func equal[T comparable](c *comparison, field string, recorded, now T) {
	if recorded != now {
		c.differs(field, recorded, now)
	}
}

// compare compares an answer with an Exchange that has an answer. It compares results only if both
// have succeeded: after a failure they have no meaning.
func (c *comparison) compare(resp fsrvp.Response, fault *dcerpc.Fault) {
	if c.recorded.Fault != nil || fault != nil {
		c.faults(c.recorded.Fault, fault)
		return
	}
	was := c.response(c.recorded.Request, c.recorded.Response)
	if was.Status() != resp.Status() {
		c.differs("Return", was.Status(), resp.Status())
		return
	}
	if !was.Status().IsSuccess() {
		return
	}
	switch now := resp.(type) {
	case *fsrvp.GetSupportedVersionResponse:
		was := was.(*fsrvp.GetSupportedVersionResponse)
		equal(c, "MinVersion", was.MinVersion, now.MinVersion)
		equal(c, "MaxVersion", was.MaxVersion, now.MaxVersion)
	case *fsrvp.StartShadowCopySetResponse:
		was := c.recorded.Response.(*fsrvp.StartShadowCopySetResponse)
		c.learned("pShadowCopySetId", c.learnSet(was.ShadowCopySetID, now.ShadowCopySetID), now.ShadowCopySetID)
	case *fsrvp.AddToShadowCopySetResponse:
		was := c.recorded.Response.(*fsrvp.AddToShadowCopySetResponse)
		want := c.learnCopy(was.ShadowCopyID, now.ShadowCopyID, transcript.ShareOf(c.recorded.Request))
		c.learned("pShadowCopyId", want, now.ShadowCopyID)
	case *fsrvp.IsPathSupportedResponse:
		was := was.(*fsrvp.IsPathSupportedResponse)
		equal(c, "SupportedByThisProvider", was.SupportedByThisProvider != 0, now.SupportedByThisProvider != 0)
		equal(c, "OwnerMachineName", was.OwnerMachineName.String, now.OwnerMachineName.String)
	case *fsrvp.IsPathShadowCopiedResponse:
		was := was.(*fsrvp.IsPathShadowCopiedResponse)
		equal(c, "ShadowCopyPresent", was.ShadowCopyPresent != 0, now.ShadowCopyPresent != 0)
		equal(c, "ShadowCopyCompatibility", was.ShadowCopyCompatibility, now.ShadowCopyCompatibility)
	case *fsrvp.GetShareMappingResponse:
		c.mappings(was.(*fsrvp.GetShareMappingResponse).ShareMapping1, now.ShareMapping1)
	}
}

func (c *comparison) faults(was, now *dcerpc.Fault) {
	switch {
	case was == nil:
		c.differs("Fault", nil, now)
	case now == nil:
		c.differs("Fault", was, nil)
	case was.Status != now.Status:
		c.differs("Fault", was, now)
	}
}

// mappings compares the two structures of a GetShareMapping, the first in today's ids and names.
func (c *comparison) mappings(was, now *fsrvp.ShareMapping1) {
	if was == nil || now == nil {
		equal(c, "ShareMapping1", was, now)
		return
	}
	equal(c, "ShadowCopySetId", was.ShadowCopySetID, now.ShadowCopySetID)
	equal(c, "ShadowCopyId", was.ShadowCopyID, now.ShadowCopyID)
	equal(c, "ShareNameUNC", was.ShareNameUNC.String, now.ShareNameUNC.String)
	equal(c, "ShadowCopyShareName", was.ShadowCopyShareName.String, now.ShadowCopyShareName.String)
	id := c.recorded.Response.(*fsrvp.GetShareMappingResponse).ShareMapping1.ShadowCopyID
	c.learned("CreationTimestamp", c.learnCreation(id, was.CreationTimestamp, now.CreationTimestamp),
		now.CreationTimestamp)
}
