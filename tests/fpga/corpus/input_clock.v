// A divider that is clocked by a pin on which nothing is connected.
module top (input IN, output ICE_27);
    reg [1:0] c = 0;
    always @(posedge IN) c <= c + 1;
    assign ICE_27 = c[1];
endmodule
